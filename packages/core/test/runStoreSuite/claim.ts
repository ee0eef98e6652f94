/** Which runs a claim takes, and which it leaves. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { makeDesk as makeTaskDesk } from "../brokerSuite/kit.ts"
import {
  type Advance,
  done,
  entry,
  eventually,
  type It,
  lost,
  makeDesk,
  over,
  pastLease,
  running,
  uuid,
  waiting
} from "./kit.ts"

const idsOf = (found: ReadonlyArray<{ readonly id: string }>) => found.map(({ id }) => id)

export const claimPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("claim", () => {
    it.effect("takes the oldest first, up to its limit, each once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids: Array<string> = []
        for (let n = 0; n < 5; n++) {
          ids.push(yield* desk.start())
          yield* advance("1 second")
        }
        const [one, other] = [yield* desk.hire(), yield* desk.hire()]
        assert.deepStrictEqual(yield* one.claim(0), [])
        assert.deepStrictEqual(idsOf(yield* one.claim(2)), ids.slice(0, 2))
        assert.deepStrictEqual(idsOf(yield* other.claim(10)), ids.slice(2))
        assert.deepStrictEqual(yield* one.claim(), [])
      }))

    it.effect("takes only runs of its workflows", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const [mine, others] = [yield* desk.start(), `Other-${uuid()}`]
        const other = yield* desk.start({ workflow: others })
        const third = yield* desk.start({ workflow: `Third-${uuid()}` })
        const worker = yield* desk.hire({ workflows: [desk.workflow, others] })
        assert.sameMembers(idsOf(yield* worker.claim()), [mine, other])
        assert.strictEqual(yield* desk.stateOf(third), "queued")
        const idle = yield* desk.hire({ workflows: [] })
        assert.deepStrictEqual(yield* idle.claim(), [])
      }))

    it.effect("takes no execution of a task with the workflow's name, and `Broker.claim` takes no run", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const tasks = yield* makeTaskDesk
        const task = yield* tasks.enqueue({ task: desk.workflow })
        const run = yield* desk.start()
        const worker = yield* desk.hire()
        const lanes = [{ queue: tasks.lane.queue, task: desk.workflow }, desk.lane]
        const claimed = yield* desk.broker.claim({ supervisor: worker.id, lanes, limit: 10 })
        assert.deepStrictEqual(idsOf(claimed), [task])
        assert.deepStrictEqual(idsOf(yield* worker.claim()), [run])
        assert.deepStrictEqual(yield* worker.claimIds([task]), [])
      }))

    it.effect("gives a new fence each time, and the old one loses", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.sleeping()
        const [again] = yield* worker.claimIds([id])
        assert.isAbove(again!.fence, claimed.fence)
        assert.strictEqual((yield* desk.read(id)).fence, again!.fence)
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), lost)
        assert.deepStrictEqual(yield* worker.commit(again!, { next: over() }), done("over"))
      }))

    it.effect("tells how long the journal is", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        assert.strictEqual(claimed.length, 0)
        yield* worker.commit(claimed, { entries: [entry("a"), entry("b")], next: waiting() })
        const [again] = yield* worker.claimIds([id])
        assert.strictEqual(again!.length, 2)
      }))

    it.effect("takes a waiting run when its time has come, not before", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const long = Duration.hours(4)
        const worker = yield* desk.hire({ lease: long })
        yield* desk.start()
        const claimed = yield* worker.claimOne
        yield* worker.commit(claimed, { next: waiting({ wakeAt: claimed.nowMillis + 3_600_000 }) })
        assert.strictEqual(yield* desk.stateOf(claimed.id), "waiting")
        yield* advance("55 minutes")
        assert.deepStrictEqual(yield* worker.claim(), [])
        yield* advance("6 minutes")
        const again = yield* worker.claimOne
        assert.strictEqual(again.id, claimed.id)
        assert.isAtLeast(again.nowMillis, claimed.nowMillis + 3_600_000)
        assert.isAtMost(again.startedAtMillis, claimed.nowMillis + 1)
      }))

    it.effect("does not take a run that waits without a time, or for a person", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { worker } = yield* desk.sleeping()
        yield* desk.sleeping(waiting({ held: "look at it" }))
        yield* desk.sleeping(waiting({ held: "look at it", wakeAt: 1 }))
        yield* advance("30 seconds")
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("takes a run whose time is long past, or before all times, at once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* Effect.forEach([1, -1e300, Number.NEGATIVE_INFINITY], (wakeAt) =>
          Effect.map(desk.sleeping(waiting({ wakeAt })), ({ id }) => id))
        const worker = yield* desk.hire()
        assert.sameMembers(idsOf(yield* worker.claim()), ids)
      }))

    it.effect("takes no run whose time is beyond all times", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.sleeping(waiting({ wakeAt: Number.POSITIVE_INFINITY }))
        assert.deepStrictEqual(yield* worker.claim(), [])
        assert.isTrue(Option.isNone((yield* worker.tick).nextDue))
        assert.strictEqual(yield* desk.stateOf(id), "waiting")
      }))

    it.effect("with ids takes exactly these, also before their time", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const asleep = yield* desk.sleeping(waiting({ wakeAt: 4e12 }))
        const forEver = yield* desk.sleeping()
        const queued = yield* desk.start()
        const left = yield* desk.start()
        const worker = yield* desk.hire()
        const wanted = [asleep.id, forEver.id, queued]
        assert.sameMembers(idsOf(yield* worker.claimIds([...wanted, uuid()])), wanted)
        assert.strictEqual(yield* desk.stateOf(left), "queued")
        for (const id of wanted) assert.strictEqual(yield* desk.stateOf(id), "running")
      }))

    it.effect("with ids takes none that is held, over, or owned by another", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const held = yield* desk.sleeping(waiting({ held: "look at it" }))
        const owned = yield* desk.holding()
        const ended = yield* desk.holding()
        yield* ended.worker.commit(ended.claimed, { next: over() })
        const worker = yield* desk.hire()
        assert.deepStrictEqual(yield* worker.claimIds([held.id, owned.id, ended.id]), [])
        assert.deepStrictEqual(yield* owned.worker.commit(owned.claimed, { next: running }), done("running"))
      }))

    it.effect("takes nothing again that the supervisor owns, which it can ask for", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.commit(claimed, { entries: [entry("a")] })
        assert.deepStrictEqual(yield* worker.claimIds([id, id]), [])
        const [owned, ...others] = yield* desk.runs.owned(worker.id)
        assert.deepInclude(owned, { id, fence: claimed.fence, length: 1 })
        assert.deepStrictEqual(others, [])
        assert.deepStrictEqual(yield* desk.runs.owned(uuid()), [])
        assert.deepStrictEqual(yield* worker.commit(owned!, { next: over() }), done("over"))
        assert.deepStrictEqual(yield* desk.runs.owned(worker.id), [])
      }))

    it.effect("gives nothing to a supervisor that has lapsed, or is not known", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const id = yield* desk.start()
        yield* advance(pastLease)
        assert.deepStrictEqual(yield* worker.claim(), [])
        assert.deepStrictEqual(yield* worker.claimIds([id]), [])
        for (const supervisor of [uuid(), "nothing like an id"]) {
          const claim = desk.runs.claim({ supervisor, workflows: [desk.workflow], limit: 10 })
          assert.deepStrictEqual(yield* claim, [])
        }
      }))

    it.effect("of many supervisors at once takes each run once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* Effect.forEach(Array.from({ length: 100 }), () => desk.start(), { concurrency: 20 })
        const workers = yield* Effect.forEach(Array.from({ length: 5 }), () => desk.hire())
        const taken: Array<string> = []
        yield* eventually(
          "all are taken",
          Effect.map(
            Effect.forEach(workers, (worker) => worker.claim(7), { concurrency: "unbounded" }),
            (claims) => {
              taken.push(...idsOf(claims.flat()))
              return taken.length >= ids.length
            }
          )
        )
        assert.deepStrictEqual([...taken].sort(), [...ids].sort())
      }))
  })
}

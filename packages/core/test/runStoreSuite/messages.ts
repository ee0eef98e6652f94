/** What becomes of a message. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import { laneOf, queue } from "../../src/RunStore.ts"
import { makeDesk as makeTaskDesk, succeeded } from "../brokerSuite/kit.ts"
import {
  type Advance,
  done,
  entry,
  eventually,
  inJournal,
  type It,
  keysOf,
  listenTo,
  makeDesk,
  moved,
  over,
  unreadOf,
  uuid,
  waiting
} from "./kit.ts"

export const messagePromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("send", () => {
    it.effect("appends what is read by every claim and commit, until a commit moves it to the journal", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.sleeping()
        yield* desk.runs.send([
          { run: id, key: "deferred:approval", value: "{\"it is\": \"ü\"}" },
          { run: id, key: "signal:x", value: "1" },
          { run: id, key: "signal:x", value: "2" }
        ])
        yield* desk.becomes(id, "queued")
        const [claimed] = yield* worker.claimIds([id])
        const { unread } = claimed!
        assert.deepStrictEqual(
          unread.map(({ key, value }) => [key, value]),
          [["deferred:approval", "{\"it is\": \"ü\"}"], ["signal:x", "1"], ["signal:x", "2"]]
        )
        assert.isTrue(unread.every((message, n) => n === 0 || message.id > unread[n - 1]!.id))
        const { nowMillis } = claimed!
        assert.isTrue(unread.every(({ atMillis }) => Number.isInteger(atMillis) && atMillis <= nowMillis + 1_000))

        assert.deepStrictEqual(yield* worker.commit(claimed!, { entries: [entry("a")] }), done("running", unread))
        const entries = [moved(unread[1]!), entry("b"), moved(unread[0]!)]
        const claim = { ...claimed!, length: 1 }
        assert.deepStrictEqual(yield* worker.commit(claim, { entries, next: waiting() }), done("running", [unread[2]!]))
        assert.deepStrictEqual(yield* desk.runs.load(id, 1), entries.map(inJournal))
        const last = { entries: [moved(unread[2]!)], next: waiting() }
        assert.deepStrictEqual(yield* worker.commit({ ...claimed!, length: 4 }, last), done("waiting"))
      }))

    it.effect("keeps what is unread for the next owner", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* desk.send(id, "a", "b")
        const { 0: a } = unreadOf(yield* worker.commit(claimed, {}))
        yield* worker.commit(claimed, { entries: [moved(a!)] })
        yield* worker.leave
        const other = yield* desk.hire()
        const again = yield* other.claimOne
        assert.deepStrictEqual(keysOf(again.unread), ["b"])
        assert.deepStrictEqual(keysOf(yield* desk.runs.load(id, 0)), ["a"])
      }))

    it.effect("to a run that is not started yet waits for it", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const [first, second] = [desk.run(), desk.run()]
        yield* desk.send(first.id, "a", "b")
        yield* desk.send(second.id, "c")
        assert.isTrue(Option.isNone(yield* desk.broker.read(first.id)))
        yield* desk.startAs(first, Option.none())
        const worker = yield* desk.hire()
        const claimed = yield* worker.claimOne
        assert.deepStrictEqual(keysOf(claimed.unread), ["a", "b"])

        const started = yield* desk.startAs(second, Option.some(worker.id))
        assert(started._tag === "Owned")
        const answer = yield* worker.commit({ id: second.id, fence: started.fence, length: 0 }, { next: waiting() })
        assert.deepStrictEqual(keysOf(unreadOf(answer)), ["c"])
        assert.deepStrictEqual(answer, done("running", unreadOf(answer)))
      }))

    it.effect("to a run that runs makes ticks of its owner report it, until it is read", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const other = yield* desk.holding()
        assert.deepStrictEqual((yield* worker.tick).unread, [])
        yield* desk.send(id, "a", "b")
        assert.deepStrictEqual((yield* worker.tick).unread, [id])
        assert.deepStrictEqual((yield* worker.tick).unread, [id])
        assert.deepStrictEqual((yield* other.worker.tick).unread, [])
        const entries = unreadOf(yield* worker.commit(claimed, {})).map(moved)
        assert.deepStrictEqual((yield* worker.tick).unread, [id])
        yield* worker.commit(claimed, { entries })
        assert.deepStrictEqual((yield* worker.tick).unread, [])
      }))

    it.effect("wakes the listener of a run's owner, and of the last owner of one that waits", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const runs = [yield* desk.holding(), yield* desk.sleeping()]
        const wakeups = yield* listenTo(desk.broker, [queue])
        for (const { id } of runs) {
          yield* desk.send(id, "a")
          yield* eventually(
            `${id} is woken`,
            Effect.map(
              Queue.clear(wakeups),
              (heard) => heard.some((wakeup) => wakeup._tag === "Woken" && wakeup.ids.includes(id))
            )
          )
        }
      }))

    it.effect("to a run that waits tells listeners of the queue", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.sleeping()
        // It has no owner any more that could be told.
        yield* worker.leave
        const wakeups = yield* listenTo(desk.broker, [queue])
        const elsewhere = yield* listenTo(desk.broker, [`queue-${uuid()}`])
        yield* desk.send(id, "a")
        yield* eventually(
          "the queue is told of",
          Effect.map(
            Queue.clear(wakeups),
            (heard) => heard.some((wakeup) => wakeup._tag === "Enqueued" && wakeup.queue === queue)
          )
        )
        const heard = yield* Queue.clear(elsewhere)
        assert.isTrue(heard.every(({ _tag }) => _tag === "Resync" || _tag === "Paused"))
      }))

    it.effect("to a run that is over is dropped", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* desk.send(id, "a")
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), done("over"))
        yield* desk.send(id, "b")
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), done("over"))
        assert.deepStrictEqual((yield* worker.tick).unread, [])
        assert.strictEqual(yield* desk.stateOf(id), "succeeded")
      }))

    it.effect("to an execution of a task is dropped", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const tasks = yield* makeTaskDesk
        const { claimed, id, worker } = yield* tasks.holding()
        yield* desk.send(id, "cancel")
        assert.deepStrictEqual((yield* worker.tick).unread, [])
        assert.strictEqual((yield* tasks.read(id)).state, "running")
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "Settled")
      }))

    it.effect("nothing does nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.runs.send([])
      }))

    it.effect("is part of no transaction where there is none", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        assert.isFalse(yield* desk.runs.isInTransaction)
      }))

    it.effect("to many runs at once wakes them all", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* Effect.forEach(Array.from({ length: 60 }), () => desk.start(), { concurrency: "unbounded" })
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(100)
        yield* Effect.forEach(claimed, (run) => worker.commit(run, { next: waiting() }), { concurrency: "unbounded" })
        yield* Effect.forEach(ids, (id) => desk.send(id, "a"), { concurrency: "unbounded" })
        const woken: Array<string> = []
        yield* eventually(
          "all are woken",
          Effect.gen(function*() {
            yield* advance("1 second")
            for (const { id, unread } of yield* worker.claim(100)) {
              assert.deepStrictEqual(keysOf(unread), ["a"])
              woken.push(id)
            }
            yield* worker.tick
            return woken.length === ids.length
          })
        )
        assert.sameMembers(woken, ids)
        assert.strictEqual(laneOf(desk.workflow).queue, queue)
      }))
  })
}

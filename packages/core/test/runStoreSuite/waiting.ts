/** When a run waits, and what ends the wait. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Advance, done, eventually, type It, keysOf, makeDesk, moved, running, unreadOf, waiting } from "./kit.ts"

export const waitPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("a run", () => {
    it.effect("with messages that it has not read does not wait", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* desk.send(id, "a")
        const first = yield* worker.commit(claimed, { next: waiting() })
        assert.deepStrictEqual(keysOf(unreadOf(first)), ["a"])
        assert.deepStrictEqual(first, done("running", unreadOf(first)))
        assert.strictEqual(yield* desk.stateOf(id), "running")

        yield* desk.send(id, "b")
        const entries = unreadOf(first).map(moved)
        const second = yield* worker.commit(claimed, { entries, next: waiting({ held: "look at it" }) })
        assert.deepStrictEqual(keysOf(unreadOf(second)), ["b"])
        assert.deepStrictEqual(second, done("running", unreadOf(second)))
        const third = yield* worker.commit({ ...claimed, length: 1 }, {
          entries: unreadOf(second).map(moved),
          next: waiting()
        })
        assert.deepStrictEqual(third, done("waiting"))
        assert.deepStrictEqual(keysOf(yield* desk.runs.load(id, 0)), ["a", "b"])
      }))

    it.effect("that waits is woken by a message, and claimed with it", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.sleeping(waiting({ wakeAt: 4e12 }))
        assert.deepStrictEqual(yield* worker.claim(), [])
        yield* desk.send(id, "a")
        yield* desk.becomes(id, "queued")
        yield* advance("1 second")
        const claimed = yield* worker.claimOne
        assert.strictEqual(claimed.id, id)
        assert.deepStrictEqual(keysOf(claimed.unread), ["a"])
      }))

    it.effect("that was woken is claimed by its id without delay", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.sleeping()
        yield* desk.send(id, "a")
        yield* desk.becomes(id, "queued")
        assert.lengthOf(yield* worker.claimIds([id]), 1)
      }))

    it.effect("that is held shows why, and continues only with a release", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        for (const release of ["resume", "cancel", "cancel at once"]) {
          const { id, worker } = yield* desk.sleeping(waiting({ held: "the card was declined" }))
          assert.deepStrictEqual((yield* desk.read(id)).held, Option.some("the card was declined"))
          yield* desk.send(id, "a", "resumed", "Resume")
          // A message that comes later, to a run that is told at once: the others have been looked at by then.
          const witness = yield* desk.sleeping()
          yield* desk.send(witness.id, "a")
          yield* desk.becomes(witness.id, "queued")
          yield* worker.claimIds([witness.id])
          const record = yield* desk.read(id)
          assert.deepStrictEqual([record.state, record.held], ["waiting", Option.some("the card was declined")])
          assert.deepStrictEqual(yield* worker.claimIds([id]), [])

          yield* desk.send(id, release)
          yield* desk.becomes(id, "queued")
          assert.isTrue(Option.isNone((yield* desk.read(id)).held))
          yield* advance("1 second")
          const claimed = yield* worker.claimOne
          assert.strictEqual(claimed.id, id)
          assert.deepStrictEqual(keysOf(claimed.unread), ["a", "resumed", "Resume", release])
          yield* worker.commit(claimed, { entries: claimed.unread.map(moved), next: waiting() })
        }
      }))

    it.effect("that waits for a time is among what a tick says is due, a run that waits for ever is not", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { worker } = yield* desk.sleeping()
        const held = yield* desk.sleeping(waiting({ held: "look at it", wakeAt: 1 }))
        assert.isTrue(Option.isNone((yield* worker.tick).nextDue))
        const [now] = yield* Effect.map(desk.holding(), ({ claimed }) => [claimed.nowMillis])
        yield* desk.sleeping(waiting({ wakeAt: now + 3_600_000 }))
        const soon = yield* desk.sleeping(waiting({ wakeAt: now + 30_000 }))
        const due = Duration.toSeconds(Option.getOrThrow((yield* worker.tick).nextDue))
        assert.isAbove(due, 1)
        assert.isAtMost(due, 30)
        yield* advance("31 seconds")
        assert.deepStrictEqual((yield* worker.tick).nextDue, Option.some(Duration.zero))
        assert.strictEqual((yield* worker.claimOne).id, soon.id)
        assert.isAbove(Duration.toMinutes(Option.getOrThrow((yield* worker.tick).nextDue)), 50)
        assert.strictEqual(yield* desk.stateOf(held.id), "waiting")
        // Of lanes that were not asked for, nothing is said.
        const others = yield* desk.hire({ workflows: [`${desk.workflow}-other`] })
        assert.isTrue(Option.isNone((yield* others.tick).nextDue))
      }))

    it.effect("that is queued is among what a tick says is due", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        assert.isTrue(Option.isNone((yield* worker.tick).nextDue))
        yield* desk.start()
        assert.deepStrictEqual((yield* worker.tick).nextDue, Option.some(Duration.zero))
      }))

    it.effect("is woken once by many messages, and gets them all in their order", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.sleeping()
        const keys = Array.from({ length: 50 }, (_, n) => `signal:${n}`)
        yield* desk.send(id, ...keys)
        yield* desk.becomes(id, "queued")
        const [claimed] = yield* worker.claimIds([id])
        assert.deepStrictEqual(keysOf(claimed!.unread), keys)
        const step = { entries: claimed!.unread.map(moved), next: waiting() }
        assert.deepStrictEqual(yield* worker.commit(claimed!, step), done("waiting"))
        yield* advance("1 second")
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("reads any number of messages, part by part", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const keys = Array.from({ length: 2_500 }, (_, n) => `signal:${n}`)
        yield* desk.send(id, ...keys)
        let length = 0
        let answer = yield* worker.commit(claimed, { next: running })
        yield* eventually(
          "it waits",
          Effect.gen(function*() {
            const entries = unreadOf(answer).map(moved)
            answer = yield* worker.commit({ ...claimed, length }, { entries, next: waiting() })
            length += entries.length
            assert.isAbove(entries.length, 0)
            return answer._tag === "Done" && answer.state === "waiting"
          })
        )
        assert.deepStrictEqual(keysOf(yield* desk.runs.load(id, 0)), keys)
      }))
  })
}

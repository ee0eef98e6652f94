/** What the broker does with runs, whose rows it shares. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import { succeeded } from "../brokerSuite/kit.ts"
import { type Advance, done, entry, type It, keysOf, makeDesk, moved, over, unreadOf, uuid, waiting } from "./kit.ts"

export const brokerPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("the broker", () => {
    it.effect("awaits the end of a run, whatever it does before", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const waiters = yield* Effect.forEach(
          Array.from({ length: 5 }),
          () => Effect.forkChild(desk.broker.awaitTerminal(id), { startImmediately: true })
        )
        yield* worker.commit(claimed, { entries: [entry("a")], next: waiting() })
        const [again] = yield* worker.claimIds([id])
        yield* worker.commit(again!, {})
        assert.isTrue(waiters.every((fiber) => fiber.pollUnsafe() === undefined))
        yield* worker.commit(again!, { next: over("7") })
        const record = Option.some(yield* desk.read(id))
        for (const fiber of waiters) assert.deepStrictEqual(yield* Fiber.join(fiber), record)
        assert.deepStrictEqual(yield* desk.broker.awaitTerminal(id), record)
        assert.deepStrictEqual(Option.flatMap(record, ({ result }) => result), Option.some("7"))
      }))

    it.effect("asks a run to cancel itself, whether it is queued, runs, waits or is held", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const queued = yield* desk.start()
        assert.strictEqual(yield* desk.broker.cancel(queued), "Requested")
        const [claimed] = yield* worker.claimIds([queued])
        assert.deepStrictEqual(keysOf(claimed!.unread), ["cancel"])

        assert.strictEqual(yield* desk.broker.cancel(queued), "Requested")
        const answer = yield* worker.commit(claimed!, { entries: claimed!.unread.map(moved), next: waiting() })
        assert.deepStrictEqual(keysOf(unreadOf(answer)), ["cancel"])
        assert.strictEqual(yield* desk.stateOf(queued), "running")

        for (const next of [waiting(), waiting({ held: "look at it" }), waiting({ wakeAt: 4e12 })]) {
          const { id } = yield* desk.sleeping(next)
          assert.strictEqual(yield* desk.broker.cancel(id), "Requested")
          yield* desk.becomes(id, "queued")
          const [again] = yield* worker.claimIds([id])
          assert.deepStrictEqual(keysOf(again!.unread), ["cancel"])
          yield* worker.commit(again!, { next: over("null", "cancelled") })
          assert.strictEqual(yield* desk.stateOf(id), "cancelled")
        }
      }))

    it.effect("finds it too late to cancel a run that is over, or not known", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.commit(claimed, { next: over() })
        assert.strictEqual(yield* desk.broker.cancel(id), "TooLate")
        assert.strictEqual(yield* desk.broker.cancel(uuid()), "TooLate")
        assert.strictEqual(yield* desk.stateOf(id), "succeeded")
      }))

    it.effect("settles no run, and does not list it among the attempts that a supervisor has", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        assert.deepStrictEqual(yield* desk.broker.owned(worker.id), [])
        const settlement = { id, fence: claimed.fence, outcome: succeeded(), place: Option.none() }
        assert.deepStrictEqual(yield* desk.broker.settle(worker.id, [settlement]), ["LeaseLost"])
        const failing = { ...settlement, outcome: { _tag: "Failed", result: "{}" } as const }
        assert.deepStrictEqual(yield* desk.broker.settle(worker.id, [failing]), ["LeaseLost"])
        assert.strictEqual(yield* desk.stateOf(id), "running")
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), done("over"))
      }))

    it.effect("does not tick of a run as of an attempt to be cancelled", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.holding()
        yield* desk.broker.cancel(id)
        const tick = yield* worker.tick
        assert.deepStrictEqual([tick.cancelling, tick.unread], [[], [id]])
        assert.strictEqual(yield* desk.stateOf(id), "running")
      }))

    it.effect("takes no task into the queue of runs", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const enqueue = desk.broker.enqueue([{
          id: uuid(),
          ...desk.lane,
          priority: 5,
          payload: "1",
          format: 1,
          due: { _tag: "Now" },
          maxAttempts: 1,
          timeout: Duration.minutes(1),
          startBy: Option.none(),
          idempotencyKey: Option.none(),
          atMostOnce: false,
          tags: {},
          traceparent: Option.none()
        }])
        const error = yield* Effect.flip(enqueue)
        assert.strictEqual(error.reason._tag, "InvalidPayload")
        assert.include(error.message, "is for workflows")
        yield* advance("1 second")
        assert.deepStrictEqual(yield* (yield* desk.hire()).claim(), [])
      }))
  })
}

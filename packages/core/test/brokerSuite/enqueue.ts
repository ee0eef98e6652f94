/** What an enqueued execution is, and when it becomes claimable. */
import { assert, describe } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Outcome } from "../../src/Outcome.ts"
import { type Advance, type It, makeDesk, reasonOf, retry, succeeded, uuid } from "./kit.ts"

const after = (delay: Duration.Input) => ({ _tag: "After", delay: Duration.fromInputUnsafe(delay) }) as const

export const enqueuePromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("enqueue", () => {
    it.effect("makes an execution readable and claimable, as it was given", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        const given = desk.execution({
          priority: 7,
          payload: "{\"url\": \"https://example.org/ü?q='; --\"}",
          maxAttempts: 5,
          timeout: Duration.seconds(90),
          tags: { customer: "ACME", ["__proto__"]: "x" },
          traceparent: Option.some(traceparent)
        })
        assert.deepStrictEqual(yield* desk.broker.enqueue([given]), [{ id: given.id, deduplicated: false }])

        const record = yield* desk.read(given.id)
        assert.strictEqual(record.state, "queued")
        assert.strictEqual(record.task, given.task)
        assert.strictEqual(record.queue, given.queue)
        assert.strictEqual(record.priority, 7)
        assert.strictEqual(record.payload, given.payload)
        assert.strictEqual(record.format, given.format)
        assert.strictEqual(record.attempts, 0)
        assert.strictEqual(record.losses, 0)
        assert.deepEqual(Object.entries(record.tags), Object.entries(given.tags))
        assert.isTrue(Option.isNone(record.finishedAt))
        assert.isTrue(Option.isNone(record.result))
        assert.closeTo(DateTime.toEpochMillis(record.runAt), DateTime.toEpochMillis(record.enqueuedAt), 1_000)

        const worker = yield* desk.hire()
        const claimed = yield* worker.claimOne
        assert.strictEqual(claimed.id, given.id)
        assert.strictEqual(claimed.payload, given.payload)
        assert.strictEqual(claimed.format, given.format)
        assert.strictEqual(claimed.attempt, 1)
        assert.strictEqual(claimed.losses, 0)
        assert.strictEqual(claimed.maxAttempts, 5)
        assert.strictEqual(claimed.timeoutMillis, 90_000)
        assert.strictEqual(claimed.atMostOnce, false)
        assert.deepStrictEqual(claimed.traceparent, Option.some(traceparent))
        assert.isAtLeast(claimed.waitedMillis, 0)
        assert.strictEqual((yield* desk.read(given.id)).state, "running")
      }))

    it.effect("knows nothing of an id that was never enqueued", () =>
      Effect.gen(function*() {
        const { broker } = yield* makeDesk
        assert.isTrue(Option.isNone(yield* broker.read(uuid())))
        assert.deepStrictEqual(yield* broker.attempts(uuid()), [])
      }))

    it.effect("accepts nothing, and answers nothing", () =>
      Effect.gen(function*() {
        const { broker } = yield* makeDesk
        assert.deepStrictEqual(yield* broker.enqueue([]), [])
      }))

    it.effect("answers a batch of 1,000 in the order given, and hands it out in the same order", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const given = Array.from({ length: 1_000 }, (_, n) => desk.execution({ payload: String(n) }))
        const answers = yield* desk.broker.enqueue(given)
        assert.deepStrictEqual(answers.map(({ id }) => id), given.map(({ id }) => id))
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(1_000)
        assert.strictEqual(claimed.length, 1_000)
        assert.deepStrictEqual(claimed.map(({ payload }) => payload), given.map(({ payload }) => payload))
        const settled = yield* desk.broker.settle(
          worker.id,
          claimed.map(({ fence, id }) => ({ id, fence, outcome: succeeded(), place: Option.none() }))
        )
        assert.isTrue(settled.length === 1_000 && settled.every((answer) => answer === "Settled"))
        assert.strictEqual((yield* desk.read(given[999]!.id)).state, "succeeded")
      }))

    it.effect("keeps an execution back until its delay has passed by the broker's clock", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const id = yield* desk.enqueue({ due: after("1 hour") })
        const worker = yield* desk.hire({ lease: Duration.hours(4) })
        assert.deepStrictEqual(yield* worker.claim(), [])
        yield* advance("55 minutes")
        assert.deepStrictEqual(yield* worker.claim(), [])
        yield* advance("6 minutes")
        const claimed = yield* worker.claimOne
        assert.strictEqual(claimed.id, id)
        assert.isAtLeast(claimed.waitedMillis, 59_000)
        assert.isAtMost(claimed.waitedMillis, 5 * 60_000)
      }))

    it.effect("keeps an execution back until its runAt by the broker's clock", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const first = yield* desk.read(yield* desk.enqueue())
        const at = DateTime.addDuration(first.enqueuedAt, "1 hour")
        const id = yield* desk.enqueue({ due: { _tag: "At", at } })
        assert.strictEqual(DateTime.toEpochMillis((yield* desk.read(id)).runAt), DateTime.toEpochMillis(at))
        const worker = yield* desk.hire({ lease: Duration.hours(4) })
        assert.deepStrictEqual((yield* worker.claim()).map((claimed) => claimed.id), [first.id])
        yield* advance("61 minutes")
        assert.strictEqual((yield* worker.claimOne).id, id)
      }))

    it.effect("takes a runAt in the past as due now", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { enqueuedAt } = yield* desk.read(yield* desk.enqueue())
        yield* desk.enqueue({ due: { _tag: "At", at: DateTime.subtractDuration(enqueuedAt, "1 day") } })
        const worker = yield* desk.hire()
        assert.strictEqual((yield* worker.claim()).length, 2)
      }))

    it.effect("expires what was not started by its startBy, and never hands it out", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const id = yield* desk.enqueue({ startBy: Option.some(after("1 hour")) })
        yield* advance("61 minutes")
        const worker = yield* desk.hire()
        assert.deepStrictEqual(yield* worker.claim(), [])
        yield* worker.tick
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "expired")
        assert.strictEqual((yield* reasonOf(record))?._tag, "Expired")
        assert.isTrue(Option.isSome(record.finishedAt))
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("expires what was given back before its attempt was started", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ startBy: Option.some(after("1 hour")) })
        assert.strictEqual(yield* worker.settle(claimed, Outcome.Released()), "Settled")
        yield* advance("61 minutes")
        const other = yield* desk.hire()
        assert.deepStrictEqual(yield* other.claim(), [])
        yield* other.tick
        assert.strictEqual((yield* desk.read(id)).state, "expired")
      }))

    it.effect("does not expire what was started in time and waits for its next attempt", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ startBy: Option.some(after("1 hour")) })
        assert.strictEqual(yield* worker.settle(claimed, retry("2 hours")), "Settled")
        yield* advance("3 hours")
        const other = yield* desk.hire()
        yield* other.tick
        assert.strictEqual((yield* other.claimOne).id, id)
      }))
  })
}

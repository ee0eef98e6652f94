/** Idempotency keys: one execution each, as long as the key lives. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Advance, type It, makeDesk, refusal, succeeded } from "./kit.ts"

const key = (key: string, timeToLive?: Duration.Input) => ({
  idempotencyKey: Option.some({
    key,
    timeToLive: Option.map(Option.fromUndefinedOr(timeToLive), Duration.fromInputUnsafe)
  })
})

export const keyPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("idempotency keys", () => {
    it.effect("answer the existing execution for the same payload", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const first = yield* desk.enqueue(key("order-1"))
        const again = yield* desk.broker.enqueue([desk.execution(key("order-1"))])
        assert.deepStrictEqual(again, [{ id: first, deduplicated: true }])
        const worker = yield* desk.hire()
        assert.strictEqual((yield* worker.claim()).length, 1)
      }))

    it.effect("refuse another payload, and write nothing of the batch", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const first = yield* desk.enqueue(key("order-1"))
        const innocent = desk.execution()
        const reason = yield* refusal(
          desk.broker.enqueue([innocent, desk.execution({ ...key("order-1"), payload: "{\"n\":2}" })])
        )
        assert.strictEqual(reason._tag, "KeyConflict")
        if (reason._tag === "KeyConflict") {
          assert.strictEqual(reason.executionId, first)
          assert.strictEqual(reason.key, "order-1")
          assert.strictEqual(reason.task, desk.lane.task)
        }
        assert.isTrue(Option.isNone(yield* desk.broker.read(innocent.id)))
      }))

    it.effect("belong to their task", () =>
      Effect.gen(function*() {
        const [one, other] = [yield* makeDesk, yield* makeDesk]
        yield* one.enqueue(key("same"))
        const answers = yield* other.broker.enqueue([other.execution({ ...key("same"), payload: "2" })])
        assert.isFalse(answers[0]!.deduplicated)
      }))

    it.effect("outlive the end of their execution", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding(key("order-1"))
        assert.deepStrictEqual(yield* desk.broker.enqueue([desk.execution(key("order-1"))]), [
          { id, deduplicated: true }
        ])
        yield* worker.settle(claimed, succeeded())
        assert.deepStrictEqual(yield* desk.broker.enqueue([desk.execution(key("order-1"))]), [
          { id, deduplicated: true }
        ])
        const reason = yield* refusal(desk.broker.enqueue([desk.execution({ ...key("order-1"), payload: "2" })]))
        assert.strictEqual(reason._tag, "KeyConflict")
      }))

    it.effect("are free again when their time to live has passed", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const first = yield* desk.enqueue(key("hourly", "1 hour"))
        yield* advance("55 minutes")
        assert.strictEqual(yield* desk.enqueue(key("hourly", "1 hour")), first)
        yield* advance("6 minutes")
        const second = yield* desk.enqueue({ ...key("hourly", "1 hour"), payload: "\"another\"" })
        assert.notStrictEqual(second, first)
        assert.strictEqual((yield* desk.read(first)).state, "queued")
        assert.strictEqual(yield* desk.enqueue({ ...key("hourly"), payload: "\"another\"" }), second)
      }))

    it.effect("that occur twice in one batch make one execution", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const batch = [desk.execution(key("a")), desk.execution(key("b")), desk.execution(key("a")), desk.execution()]
        const [a, b, , none] = batch
        assert.deepStrictEqual(yield* desk.broker.enqueue(batch), [
          { id: a!.id, deduplicated: false },
          { id: b!.id, deduplicated: false },
          { id: a!.id, deduplicated: true },
          { id: none!.id, deduplicated: false }
        ])
        const worker = yield* desk.hire()
        assert.strictEqual((yield* worker.claim()).length, 3)
      }))

    it.effect("that occur twice in one batch with two payloads are refused, and nothing is written", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const batch = [desk.execution(key("a")), desk.execution({ ...key("a"), payload: "2" })]
        assert.strictEqual((yield* refusal(desk.broker.enqueue(batch)))._tag, "KeyConflict")
        assert.isTrue(Option.isNone(yield* desk.broker.read(batch[0]!.id)))
        assert.isFalse((yield* desk.broker.enqueue([desk.execution({ ...key("a"), payload: "2" })]))[0]!.deduplicated)
      }))

    it.effect("make one execution when many enqueue at once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const answers = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, n) => n),
          (n) => desk.broker.enqueue([desk.execution(key(`k-${n % 2}`)), desk.execution(key(`k-${(n + 1) % 2}`))]),
          { concurrency: "unbounded" }
        )
        const flat = answers.flat()
        assert.strictEqual(new Set(flat.map(({ id }) => id)).size, 2)
        assert.strictEqual(flat.filter(({ deduplicated }) => !deduplicated).length, 2)
        const worker = yield* desk.hire()
        assert.strictEqual((yield* worker.claim()).length, 2)
      }))
  })
}

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

    const alike: ReadonlyArray<readonly [what: string, first: string, second: string]> = [
      ["its properties in another order", "{\"a\":1,\"b\":[{\"c\":2,\"d\":3}]}", "{\"b\":[{\"d\":3,\"c\":2}],\"a\":1}"],
      ["blanks", "{\"a\":[1,2],\"b\":{}}", " {\n\"b\" : { } , \"a\" : [ 1 , 2 ] } "],
      ["an escape where none is needed", "{\"a\":\"ü\"}", "{\"\\u0061\":\"\\u00fc\"}"],
      [
        "properties named as objects' own",
        "{\"__proto__\":1,\"constructor\":2}",
        "{\"constructor\":2,\"__proto__\":1}"
      ],
      [
        "great depth",
        `${"[{\"a\":".repeat(9_999)}{"x":1,"y":2}${"}]".repeat(9_999)}`,
        `${"[{\"a\":".repeat(9_999)}{"y":2,"x":1}${"}]".repeat(9_999)}`
      ]
    ]
    it.effect.each(alike)(
      "answer the existing execution for the same payload with %s",
      ([, first, second]) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const id = yield* desk.enqueue({ ...key("k"), payload: first })
          const again = yield* desk.broker.enqueue([desk.execution({ ...key("k"), payload: second })])
          assert.deepStrictEqual(again, [{ id, deduplicated: true }])
          const batch = [{ ...key("l"), payload: first }, { ...key("l"), payload: second }].map(desk.execution)
          assert.deepStrictEqual((yield* desk.broker.enqueue(batch)).map(({ deduplicated }) => deduplicated), [
            false,
            true
          ])
          // What was stored first is what runs, as it was given.
          assert.strictEqual((yield* desk.read(id)).payload, first)
        })
    )

    const different: ReadonlyArray<readonly [what: string, first: string, second: string]> = [
      ["members of a list in another order", "[1,2]", "[2,1]"],
      ["a number written otherwise", "{\"a\":1}", "{\"a\":1.0}"],
      ["a number that only a double takes for the same", "9007199254740993", "9007199254740992"],
      ["a text for a number", "{\"a\":1}", "{\"a\":\"1\"}"],
      ["one property more", "{\"a\":1}", "{\"a\":1,\"b\":null}"],
      ["a property twice", "{\"a\":1,\"a\":2}", "{\"a\":2,\"a\":1}"],
      ["punctuation within a text", "{\"a\":\"b\",\"c\":1}", "{\"a\":\"b\\\",\\\"c\":1}"],
      ["something that is no JSON", "{\"a\":1", "{\"a\":1}"]
    ]
    it.effect.each(different)("tell payloads apart by %s", ([, first, second]) =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueue({ ...key("k"), payload: first })
        const reason = yield* refusal(desk.broker.enqueue([desk.execution({ ...key("k"), payload: second })]))
        assert.strictEqual(reason._tag, "KeyConflict")
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

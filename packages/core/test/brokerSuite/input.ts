/** Input that no store can take is refused at the door; what only looks odd is kept byte for byte. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { NewExecution } from "../../src/Broker.ts"
import * as Envelope from "../../src/Envelope.ts"
import { Outcome } from "../../src/Outcome.ts"
import { type It, makeDesk, reasonOf, refusal, succeeded } from "./kit.ts"

const keyed = (key: string): Partial<NewExecution> => ({
  idempotencyKey: Option.some({ key, timeToLive: Option.none() })
})

const refused: ReadonlyArray<readonly [what: string, overrides: Partial<NewExecution>]> = [
  ["a NUL in a key", keyed("a\u0000b")],
  ["half a surrogate pair in a key", keyed("a\uD800b")],
  ["a NUL in a tag", { tags: { customer: "a\u0000b" } }],
  ["a NUL in a tag's name", { tags: { "a\u0000b": "c" } }],
  ["half a surrogate pair in a tag", { tags: { customer: "\uDC00" } }],
  ["a NUL in the queue's name", { queue: "a\u0000b" }],
  ["half a surrogate pair in the queue's name", { queue: "\uD83D" }],
  ["an empty queue name", { queue: "" }],
  ["a NUL in the task's name", { task: "a\u0000b" }],
  ["an empty task name", { task: "" }],
  ["a NUL in the trace context", { traceparent: Option.some("00\u0000") }],
  ["a NUL in the payload's text", { payload: "\"a\u0000b\"" }],
  ["half a surrogate pair in the payload's text", { payload: "\"\uD800\"" }],
  ["priority 10", { priority: 10 }],
  ["priority -1", { priority: -1 }],
  ["priority 2.5", { priority: 2.5 }],
  ["no attempts", { maxAttempts: 0 }],
  ["an id that is no UUID", { id: "'; DROP TABLE executions; --" }]
]

// jsonb would refuse or change each of these.
const odd: ReadonlyArray<readonly [what: string, json: string]> = [
  ["an escaped NUL", "\"a\\u0000b\""],
  ["an escaped half of a surrogate pair", "\"\\ud800\""],
  ["a number beyond every double", "1e400000"],
  ["minus zero", "{\"zero\":-0}"],
  ["names in their order, twice, with blanks", "{ \"b\": 1, \"a\": 2,  \"b\": 3 }"],
  ["great depth", "[".repeat(20_000) + "]".repeat(20_000)],
  ["SQL", "\"'); DROP TABLE executions; -- $1 $$ \\\\\""],
  ["__proto__", "{\"__proto__\":{\"polluted\":true}}"]
]

export const inputPromises = <R>(it: It<R>): void => {
  describe("input", () => {
    it.effect.each(refused)("refuses %s, and writes nothing of the batch", ([, overrides]) =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const innocent = desk.execution()
        const reason = yield* refusal(desk.broker.enqueue([innocent, desk.execution(overrides)]))
        assert.strictEqual(reason._tag, "InvalidPayload")
        assert.isTrue(Option.isNone(yield* desk.broker.read(innocent.id)))
      }))

    it.effect.each(odd)("keeps payload and result byte for byte: %s", ([, json]) =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ payload: json })
        assert.strictEqual(claimed.payload, json)
        assert.strictEqual(yield* worker.settle(claimed, succeeded(json)), "Settled")
        const record = yield* desk.read(id)
        assert.strictEqual(record.payload, json)
        assert.strictEqual(Option.getOrThrow(record.result), Envelope.success(json))
        assert.strictEqual(Option.getOrThrow((yield* desk.broker.attempts(id))[0]!.result), Envelope.success(json))
      }))

    it.effect("records a result that cannot be stored as failed, and the rest of its batch as given", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(5)
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(5)
        const settled = yield* desk.broker.settle(
          worker.id,
          claimed.map(({ fence, id }, n) => ({
            id,
            fence,
            outcome: n === 2 ? Outcome.Succeeded({ result: "\"a\u0000b\"" }) : succeeded(),
            runnerRef: Option.none()
          }))
        )
        assert.deepStrictEqual(settled, ["Settled", "Settled", "Settled", "Settled", "Settled"])
        for (const [n, { id }] of claimed.entries()) {
          assert.strictEqual((yield* desk.read(id)).state, n === 2 ? "failed" : "succeeded")
        }
        assert.isDefined(yield* reasonOf(yield* desk.read(claimed[2]!.id)))
      }))
  })
}

/** Input that no store can take is refused at the door; what only looks odd is kept byte for byte. */
import { assert, describe } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { NewExecution } from "../../src/Broker.ts"
import * as BrokerInput from "../../src/BrokerInput.ts"
import * as Endings from "../../src/Endings.ts"
import * as Envelope from "../../src/Envelope.ts"
import {
  maxCarriedBytes,
  maxEnqueueLength,
  maxKeyBytes,
  maxNameBytes,
  maxTagsBytes,
  maxTraceparentBytes
} from "../../src/Limits.ts"
import { Outcome } from "../../src/Outcome.ts"
import { type It, makeDesk, reasonOf, refusal, retry, succeeded } from "./kit.ts"

const keyed = (key: string): Partial<NewExecution> => ({
  idempotencyKey: Option.some({ key, timeToLive: Option.none() })
})

/** Due after so many milliseconds, which may be no sensible number. */
const after = (millis: number) => ({ _tag: "After", delay: Duration.millis(millis) }) as const

const at = (epochMillis: number): Partial<NewExecution> => ({
  due: { _tag: "At", at: DateTime.makeUnsafe(epochMillis) }
})

/** What no compiler would let through. */
const untyped = (overrides: { readonly [_ in keyof NewExecution]?: unknown }) => overrides as Partial<NewExecution>

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
  ["more attempts than an integer counts", { maxAttempts: 2 ** 31 }],
  ["a key that is too long", keyed("k".repeat(maxKeyBytes + 1))],
  ["a key of too many bytes", keyed("鍵".repeat(maxKeyBytes / 3 + 1))],
  ["a key that never ends", { idempotencyKey: Option.some({ key: "k", timeToLive: Option.some(Duration.infinity) }) }],
  ["a task's name that is too long", { task: "t".repeat(maxNameBytes + 1) }],
  ["a queue's name of too many bytes", { queue: "列".repeat(maxNameBytes / 3 + 1) }],
  ["a delay without end", { due: after(Infinity) }],
  ["a delay of more than is stored", { due: after(2 * BrokerInput.maxMillis) }],
  ["a startBy without end", { startBy: Option.some(after(Infinity)) }],
  ["a time before the year 1", at(-7e13)],
  ["a time after the year 100,000", at(2 * BrokerInput.maxMillis)],
  ["no timeout", { timeout: Duration.zero }],
  ["a timeout below zero", { timeout: Duration.millis(-1e300) }],
  ["a timeout far below zero", { timeout: Duration.millis(-Infinity) }],
  ["a timeout that is no duration", untyped({ timeout: "soon" })],
  ["a delay that is no duration", untyped({ due: { _tag: "After", delay: "soon" } })],
  ["a time that is none", untyped({ due: { _tag: "At", at: "noon" } })],
  ["a tag that is no text", untyped({ tags: { n: 7 } })],
  ["a key that is no text", untyped({ idempotencyKey: Option.some({ key: 7, timeToLive: Option.none() }) })],
  ["more tags than a row takes", { tags: { a: "x".repeat(maxTagsBytes) } }],
  ["a trace context without end", { traceparent: Option.some("0".repeat(maxTraceparentBytes + 1)) }],
  ["a payload that is no text", untyped({ payload: { n: 1 } })],
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

    it.effect("refuses more payload in one call than a statement can carry", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const payload = JSON.stringify("x".repeat(maxEnqueueLength / 64))
        const reason = yield* refusal(
          desk.broker.enqueue(Array.from({ length: 64 }, () => desk.execution({ payload })))
        )
        assert.strictEqual(reason._tag, "InvalidPayload")
      }))

    it.effect("refuses a payload that no row carries, whatever the limit of who enqueues it, and says how much one does", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const payload = JSON.stringify("x".repeat(maxCarriedBytes - 1))
        const reason = yield* refusal(desk.broker.enqueue([desk.execution(), desk.execution({ payload })]))
        assert.strictEqual(reason._tag, "PayloadTooLarge")
        if (reason._tag === "PayloadTooLarge") assert.strictEqual(reason.maxBytes, maxCarriedBytes)
      }))

    it.effect("ends as failed what is settled with more than a row carries, and settles the rest of its batch", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(2)
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(2)
        const large = JSON.stringify("x".repeat(maxCarriedBytes + 2_000))
        const settled = yield* desk.broker.settle(
          worker.id,
          claimed.map(({ fence, id }, n) => ({
            id,
            fence,
            outcome: n === 0 ? succeeded(large) : succeeded(),
            place: Option.none()
          }))
        )
        assert.deepStrictEqual(settled, ["Settled", "Settled"])
        const record = yield* desk.read(claimed[0]!.id)
        assert.strictEqual(record.state, "failed")
        assert.strictEqual((yield* reasonOf(record))?._tag, "ResultTooLarge")
        assert.strictEqual((yield* desk.read(claimed[1]!.id)).state, "succeeded")
      }))

    it.effect("refuses an id that belongs to an execution, and one that occurs twice", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const id = yield* desk.enqueue()
        const innocent = desk.execution()
        for (const batch of [[innocent, desk.execution({ id })], [innocent, innocent]]) {
          assert.strictEqual((yield* refusal(desk.broker.enqueue(batch)))._tag, "InvalidPayload")
          assert.isTrue(Option.isNone(yield* desk.broker.read(innocent.id)))
        }
      }))

    it.effect("keeps the longest names and keys, of characters that take the most bytes", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        // Each test has lanes of its own.
        const longest = (text: string) => `${text}${"列".repeat(Math.floor((maxNameBytes - text.length) / 3))}`
        const lane = { task: longest(desk.lane.task), queue: longest(desk.lane.queue) }
        const key = "鍵".repeat(maxKeyBytes / 3)
        const id = yield* desk.enqueue({ ...lane, ...keyed(key) })
        const worker = yield* desk.hire({ lanes: [lane] })
        const claimed = yield* worker.claimOne
        assert.deepStrictEqual([claimed.id, claimed.task, claimed.queue], [id, lane.task, lane.queue])
        assert.deepStrictEqual(
          yield* desk.broker.enqueue([desk.execution({ ...lane, ...keyed(key) })]),
          [{ id, deduplicated: true }]
        )
      }))

    it.effect.each([-Infinity, -1e300, Number.NaN, -0])(
      "tries again at once after a delay of %s ms",
      (millis) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const { claimed, id, worker } = yield* desk.holding()
          assert.strictEqual(yield* worker.settle(claimed, retry(Duration.millis(millis))), "Settled")
          assert.strictEqual((yield* worker.claimOne).id, id)
        })
    )

    it.effect.each([Infinity, 1e300])(
      "takes a delay of %s ms for the longest there is",
      (millis) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const { claimed, id, worker } = yield* desk.holding()
          assert.strictEqual(yield* worker.settle(claimed, retry(Duration.millis(millis))), "Settled")
          const { runAt, state } = yield* desk.read(id)
          assert.strictEqual(state, "queued")
          assert.isAtLeast(DateTime.toEpochMillis(runAt), BrokerInput.maxMillis)
          assert.deepStrictEqual(yield* worker.claim(), [])
        })
    )

    it.effect("keeps how an attempt ended where the text of its error cannot be stored", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        for (const result of ["a\u0000b", "\uD800"]) {
          const ends = [
            ["queued", Outcome.Retry({ result, delay: Duration.hours(1), confirmed: true })],
            ["queued", Outcome.Lost({ result, counted: true, final: false })],
            ["lost", Outcome.Lost({ result, counted: true, final: true })],
            ["failed", Outcome.Failed({ result })],
            ["failed", Outcome.TimedOut({ result, confirmed: true })],
            ["failed", Outcome.Succeeded({ result })]
          ] as const
          for (const [state, outcome] of ends) {
            const { claimed, id, worker } = yield* desk.holding({ priority: 9 })
            assert.strictEqual(yield* worker.settle(claimed, outcome), "Settled")
            assert.strictEqual((yield* desk.read(id)).state, state, outcome._tag)
            const [attempt] = yield* desk.broker.attempts(id)
            assert.deepStrictEqual(attempt!.result, Option.some(Endings.unstorable), outcome._tag)
            yield* desk.broker.cancel(id)
          }
        }
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
            place: Option.none()
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

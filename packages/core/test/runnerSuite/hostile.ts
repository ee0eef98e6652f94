import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Limits from "../../src/Limits.ts"
import { isWell, type It, join, makeAttempt, reasonOf, run, runText, start, valueOf } from "./kit.ts"
import * as Tasks from "./tasks.ts"

/** Neither a NUL nor half a surrogate pair: what a row can store. */
const isStorable = (text: string): boolean => !text.includes("\u0000") && text.isWellFormed()

export const hostilePromises = (it: It): void => {
  it.effect("tells of whatever a handler throws, bounded and storable, and goes on", () =>
    Effect.gen(function*() {
      for (const what of Tasks.thrown) {
        const reason = reasonOf(yield* run(Tasks.Throw, { what }), what)
        assert(reason._tag === "Defect", what)
        assert.isNotEmpty(`${reason.name}${reason.detail}`, what)
        assert.isAtMost(reason.name.length, Limits.maxDetailLength, what)
        assert.isAtMost(reason.detail.length, Limits.maxDetailLength, what)
        assert.isAtMost(reason.stack.length, Limits.maxStackLength, what)
        for (const text of [reason.name, reason.detail, reason.stack]) assert.isTrue(isStorable(text), what)
      }
      yield* isWell
    }))

  it.effect("calls a handler dead that returns a promise", () =>
    Effect.gen(function*() {
      const reason = reasonOf(yield* run(Tasks.Promising, null))
      assert(reason._tag === "Defect")
      assert.include(reason.detail, "the handler returned a promise and not an Effect")
      yield* isWell
    }))

  it.effect("calls a handler dead whose fiber is interrupted without anybody having asked for it", () =>
    Effect.gen(function*() {
      const ended = yield* join(yield* start(makeAttempt(Tasks.Itself, null)))
      const reason = reasonOf(ended)
      assert(reason._tag === "Defect")
      assert.strictEqual(reason.detail, "the handler interrupted itself")
      yield* isWell
    }))

  it.effect("carries any text, as a key as well", () =>
    Effect.gen(function*() {
      const texts = [
        "\u0000",
        "\ud800",
        "\u2028\u2029",
        "\u001b[2J",
        "\"}\n{\"",
        "'; DROP TABLE effect_ray.executions; --",
        "<script>",
        "€😀"
      ]
      for (const text of texts) {
        const given = { [text]: [text] }
        assert.deepStrictEqual(valueOf(yield* run(Tasks.Echo, given)), given)
      }
    }))

  it.effect("takes no property of a payload for more than a property", () =>
    Effect.gen(function*() {
      const text = `{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}`
      const ended = yield* runText(Tasks.Echo, text)
      assert(ended._tag === "Succeeded", JSON.stringify(ended))
      assert.isUndefined(({} as { readonly polluted?: boolean }).polluted)
      assert.include(ended.value, "\"constructor\":{\"prototype\":{\"polluted\":true}}")
    }))

  it.effect("runs attempts of whatever queue and trace", () =>
    Effect.gen(function*() {
      const rubbish = ["", "00-xyz", "'; DROP TABLE x", "\n{}\n", "x".repeat(100_000)]
      for (const text of rubbish) {
        const ended = yield* run(Tasks.About, null, { queue: text, traceparent: Option.some(text) })
        assert.isNull(valueOf(ended).traceId)
      }
    }))
}

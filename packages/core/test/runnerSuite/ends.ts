import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Ended } from "../../src/Outcome.ts"
import { isWell, type It, limits, lines, misfitOf, reasonOf, run, runText, tempFile } from "./kit.ts"
import * as Tasks from "./tasks.ts"

const at = "2020-01-01T00:00:00.000Z"

export const endPromises = (it: It): void => {
  it.effect("returns a success as its Schema encodes it", () =>
    Effect.gen(function*() {
      const ended = yield* run(Tasks.Greet, { name: "x", at })
      assert.deepStrictEqual(
        ended,
        Ended.Succeeded({ value: JSON.stringify({ text: "hello x", at, next: null }) })
      )
    }))

  it.effect("returns a declared error as its Schema encodes it", () =>
    Effect.gen(function*() {
      const ended = yield* run(Tasks.Greet, { name: "", at })
      assert.deepStrictEqual(ended, Ended.Failed({ error: JSON.stringify({ _tag: "Refused", at }) }))
    }))

  it.effect("tells what a handler died of, where, and what caused it", () =>
    Effect.gen(function*() {
      const reason = reasonOf(yield* run(Tasks.Crash, { message: "off the road" }))
      assert(reason._tag === "Defect")
      assert.strictEqual(reason.name, "RangeError")
      assert.match(reason.detail, /^off the road/)
      assert.include(reason.detail, "a sharp bend")
      assert.match(reason.stack, /at offTheRoad \(.*worker\.ts:\d+/)
    }))

  it.effect("calls an error that the task does not declare a defect", () =>
    Effect.gen(function*() {
      const reason = reasonOf(yield* run(Tasks.Undeclared, null))
      assert.include(reason, { _tag: "Defect", name: "Object", detail: "{\"code\":1}" })
    }))

  it.effect("calls a payload that does not fit undecodable, and does not run the handler with it", () =>
    Effect.gen(function*() {
      for (const payload of [{ name: "x" }, { name: 1, at }, { name: "x", at: "soon" }, null, [], "x"]) {
        assert.strictEqual(misfitOf(yield* run(Tasks.Greet, payload), JSON.stringify(payload)).what, "payload")
      }
    }))

  it.effect("calls a payload that is not JSON undecodable, whoever wrote it", () =>
    Effect.gen(function*() {
      const rubbish = [
        "",
        "{\"name\":\"x\"",
        "{}}",
        "1,\"task\":\"Crash\",\"payload\":{\"message\":\"ran\"}",
        `1\n${JSON.stringify({ name: "x", at })}`,
        `{},"module":"os","function":"system","payload":"true"`
      ]
      for (const text of rubbish) assert.strictEqual(misfitOf(yield* runText(Tasks.Greet, text), text).what, "payload")
      yield* isWell
    }))

  it.effect("refuses a payload over the limit, with the name of the setting", () =>
    Effect.gen(function*() {
      const misfit = misfitOf(yield* run(Tasks.Echo, "ü".repeat(limits.maxPayloadBytes / 2)))
      assert.strictEqual(misfit.what, "payload")
      assert.include(misfit.detail, `it has ${limits.maxPayloadBytes + 2} bytes`)
      assert.include(misfit.detail, "EFFECT_RAY_MAX_PAYLOAD_BYTES")
      yield* isWell
    }))

  it.effect("refuses a result and an error over the limit, and takes those up to it", () =>
    Effect.gen(function*() {
      const { maxResultBytes: maxBytes } = limits
      for (const as of ["result", "error"] as const) {
        // Two quotes are part of a text's JSON.
        const envelope = as === "result" ? 2 : JSON.stringify({ _tag: "TooMuch", text: "" }).length
        const fits = yield* run(Tasks.Long, { as, length: maxBytes - envelope })
        assert.strictEqual(fits._tag, as === "result" ? "Succeeded" : "Failed")
        const reason = reasonOf(yield* run(Tasks.Long, { as, length: maxBytes - envelope + 1 }), as)
        assert(reason._tag === "ResultTooLarge", JSON.stringify(reason))
        assert.strictEqual(reason.maxBytes, maxBytes)
        assert.isAbove(reason.bytes, maxBytes)
      }
      yield* isWell
    }))

  it.effect("calls a result and an error that are not JSON undecodable", () =>
    Effect.gen(function*() {
      for (const as of ["result", "error"] as const) {
        for (const what of Tasks.notJson) {
          assert.strictEqual(misfitOf(yield* run(Tasks.Anything, { what, as }), `${what} as ${as}`).what, as)
        }
      }
      yield* isWell
    }))

  it.effect("closes the scope of a handler before it tells of its end", () =>
    Effect.gen(function*() {
      const file = yield* tempFile
      assert.strictEqual((yield* run(Tasks.Tidy, { file }))._tag, "Succeeded")
      assert.deepStrictEqual(yield* lines(file), ["closed"])
    }))
}

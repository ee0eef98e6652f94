import { Ended } from "@effect-ray/core/Outcome"
import * as Task from "@effect-ray/core/Task"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as pythonSchemas from "../src/internal/pythonSchemas.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { at: Schema.Date }) {}

const python = { module: "m", function: "f" }

const Dated = Task.python("Dated", {
  ...python,
  payload: { at: Schema.Date },
  success: Schema.Struct({ at: Schema.Date, n: Schema.optionalKey(Schema.Number) }),
  error: Bad
})

const Untagged = Task.python("Untagged", { ...python, error: Schema.Union([Bad, Schema.Struct({ code: Schema.Int })]) })

const date = "\"1970-01-01T00:00:00.000Z\""

const whyNot = (ended: Ended | undefined) =>
  ended?._tag === "Died" && ended.reason._tag === "Undecodable"
    ? { what: ended.reason.what, detail: ended.reason.detail }
    : undefined

describe("pythonSchemas", () => {
  it.effect("lets through what fits, as it is", () =>
    Effect.gen(function*() {
      const succeeded = Ended.Succeeded({ value: `{ "at": ${date}, "more": 1 }` })
      assert.strictEqual(yield* pythonSchemas.ofEnd(Dated, succeeded), succeeded)
      const failed = Ended.Failed({ error: `{"_tag":"Bad","at":${date}}` })
      assert.strictEqual(yield* pythonSchemas.ofEnd(Dated, failed), failed)
      const coded = Ended.Failed({ error: `{"code":1}` })
      assert.strictEqual(yield* pythonSchemas.ofEnd(Untagged, coded), coded)
      const interrupted = Ended.Interrupted({ confirmed: false })
      assert.strictEqual(yield* pythonSchemas.ofEnd(Dated, interrupted), interrupted)
      assert.isUndefined(yield* pythonSchemas.ofPayload(Dated, `{"at":${date}}`))
    }))

  it.effect("says what does not fit, bounded", () =>
    Effect.gen(function*() {
      const result = (value: string) => Effect.map(pythonSchemas.ofEnd(Dated, Ended.Succeeded({ value })), whyNot)
      const error = (error: string) => Effect.map(pythonSchemas.ofEnd(Dated, Ended.Failed({ error })), whyNot)
      for (const value of ["", "{", "NaN", "1}", "null", "{}", "{\"at\":1}", `{"at":${date}},"x":{`]) {
        assert.strictEqual((yield* result(value))?.what, "result", value)
      }
      assert.strictEqual((yield* error("{\"_tag\":\"Bad\"}"))?.what, "error")
      assert.include((yield* error("{\"_tag\":\"Worse\"}"))?.detail, "the tag \"Worse\", but the task declares Bad")
      assert.isBelow((yield* error(`{"_tag":"${"x".repeat(10_000)}"}`))!.detail.length, 3_000)
      assert.isDefined(whyNot(yield* pythonSchemas.ofEnd(Untagged, Ended.Failed({ error: "{\"_tag\":\"Worse\"}" }))))
      for (const payload of ["", "{}", "{\"at\":1}", `{"at":${date}},"module":"os"`]) {
        assert.strictEqual(whyNot(yield* pythonSchemas.ofPayload(Dated, payload))?.what, "payload", payload)
      }
    }))

  it.effect("tells of an error that does not fit what was raised, and stores none of it with one that does", () =>
    Effect.gen(function*() {
      const told = "what was raised: TaskFailure: Bad {'at': 1}\n  File \"train.py\", line 3, in train"
      const sent = (error: string) => Ended.Failed({ error: `${error}\n${JSON.stringify(told)}` })
      const fits = `{"_tag":"Bad","at":${date}}`
      assert.deepStrictEqual(yield* pythonSchemas.ofEnd(Dated, sent(fits)), Ended.Failed({ error: fits }))
      const misfits = [
        { error: "{\"_tag\":\"Bad\",\"at\":1}", why: "[\"at\"]" },
        { error: "{\"_tag\":\"Bad\",\"on\":1}", why: "Missing key" },
        { error: "{\"_tag\":\"Worse\"}", why: "the tag \"Worse\", but the task declares Bad" },
        { error: `{"_tag":"${"x".repeat(10_000)}"}`, why: "but the task declares Bad" },
        { error: `{"_tag":"Bad","at":"${"x".repeat(10_000)}"}`, why: "valid Date" },
        { error: "{\"_tag\":\"Bad\",\"at\":12345678901234567890}", why: "beyond what a number holds exactly" }
      ]
      for (const { error, why } of misfits) {
        const misfit = whyNot(yield* pythonSchemas.ofEnd(Dated, sent(error)))
        assert(misfit?.what === "error", error)
        assert.include(misfit.detail, why, error)
        assert.isTrue(misfit.detail.endsWith(`\n${told}`), error)
      }
    }))

  it("finds every number that would be another one here", () => {
    const changed = [
      "9007199254740993",
      "-9007199254740993",
      "1e400",
      "-1E+999",
      `1${"0".repeat(400)}`,
      "12345678901234567890"
    ]
    const exact = [
      "9007199254740991",
      "9007199254740992",
      "-9007199254740994",
      "10000000000000000000000",
      "0.30000000000000004",
      "1234567890123456.0",
      "1.7976931348623157e+308",
      "5e-324",
      "-0.0",
      "123456789012345"
    ]
    for (const number of changed) {
      for (const text of [number, `[${number}]`, `{"a":[1,{"b":${number}}],"c":"${number}"}`]) {
        assert.include(pythonSchemas.inexact(text), number.slice(0, 10), text)
      }
    }
    for (const number of exact) {
      for (const text of [number, `{"a":[0.1,${number}]}`]) assert.isUndefined(pythonSchemas.inexact(text), text)
    }
    // In a text, or as a key, it is no number.
    assert.isUndefined(pythonSchemas.inexact("{\"9007199254740993\":\"9007199254740993 \\\" 1e400\"}"))
  })

  it.prop("finds none where all numbers are exact, whatever stands around them", [Schema.Json], ([json]) => {
    const safe = JSON.stringify(json, (_, value) => Number.isInteger(value) && !Number.isSafeInteger(value) ? 0 : value)
    assert.isUndefined(pythonSchemas.inexact(safe))
  })
})

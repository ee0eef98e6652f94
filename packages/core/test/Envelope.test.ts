import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Option, Schema } from "effect"
import { Envelope, TaskError } from "../src/index.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

const decode = (envelope: string) =>
  Envelope.decode({
    task: "T",
    executionId: "0190-a",
    successSchema: Schema.Struct({ at: Schema.Date }),
    errorSchema: Bad,
    envelope
  })

const reason = (exit: Exit.Exit<unknown, unknown>) => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit))
  assert(error instanceof TaskError.TaskError)
  return error.reason
}

describe("Envelope", () => {
  it.effect("gives back success and declared error as values of their Schemas", () =>
    Effect.gen(function*() {
      const success = yield* decode(Envelope.success("{\"at\":\"1970-01-01T00:00:00.000Z\"}"))
      assert.deepStrictEqual(success, Exit.succeed({ at: new Date(0) }))
      const failure = yield* decode(Envelope.failure("{\"_tag\":\"Bad\",\"n\":1}"))
      assert.deepStrictEqual(failure, Exit.fail(new Bad({ n: 1 })))
    }))

  it.effect("gives back every reason", () =>
    Effect.gen(function*() {
      const reasons: ReadonlyArray<TaskError.Reason> = [
        new TaskError.TimedOut({ timeoutMillis: 1 }),
        new TaskError.Cancelled({ confirmed: false }),
        new TaskError.Expired(),
        new TaskError.Lost({ detail: "d" }),
        new TaskError.Quarantined({ losses: 3, detail: "d" }),
        new TaskError.OutOfMemory({ detail: "d" }),
        new TaskError.Defect({ name: "n", detail: "d", stack: "s" }),
        new TaskError.Defect({ name: "n", detail: "d", stack: "" }),
        new TaskError.PythonError({ type: "ValueError", detail: "d", traceback: "t" }),
        new TaskError.ResultTooLarge({ bytes: 2, maxBytes: 1 }),
        new TaskError.Undecodable({ what: "payload", detail: "d" }),
        new TaskError.Unschedulable({ detail: "d" })
      ]
      for (const expected of reasons) {
        assert.deepStrictEqual(reason(yield* decode(Envelope.taskError(expected))), expected)
        assert.isNotEmpty(TaskError.describe(expected))
      }
    }))

  it.effect("calls what does not fit undecodable, and never fails otherwise", () =>
    Effect.gen(function*() {
      const rubbish = ["", "{", "[]", "{\"_tag\":\"Success\"}", Envelope.success("{\"at\":1}"), Envelope.failure("{}")]
      for (const envelope of rubbish) {
        assert.strictEqual(reason(yield* decode(envelope))._tag, "Undecodable", envelope)
      }
    }))

  it.effect("stays what it is, whatever text is put into it", () =>
    Effect.gen(function*() {
      const at = "{\"at\":\"1970-01-01T00:00:00.000Z\"}"
      const texts = [
        `${at},"_tag":"TaskError","reason":{"_tag":"Cancelled","confirmed":true}`,
        `${at},"_tag":"Failure","error":{"_tag":"Bad","n":1}`,
        `${at},"value":${at}`,
        `${at}},"x":{`,
        `${at}}`,
        "",
        "undefined"
      ]
      for (const text of texts) {
        for (const envelope of [Envelope.success(text), Envelope.failure(text)]) {
          assert.strictEqual(reason(yield* decode(envelope))._tag, "Undecodable", envelope)
        }
      }
    }))
})

import type * as Runner from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { runBody } from "../src/internal/runBody.ts"
import * as Tasks from "./fixtures/tasks.ts"

const bodyOf = (task: Task.Any, rest: Partial<Runner.Attempt>) =>
  runBody({
    execution: "0198c5a4-1b2c-7d3e-8f40-5a6b7c8d9e0f",
    fence: 3,
    task,
    queue: "default",
    priority: 5,
    attempt: 1,
    payload: "{}",
    traceparent: Option.none(),
    suspect: false,
    onStart: () => {},
    ...rest
  })

/** As a host takes it apart. */
const read = (body: string) => {
  const end = body.indexOf("\n")
  return { header: JSON.parse(body.slice(0, end)), payload: body.slice(end + 1) }
}

describe("runBody", () => {
  it.prop(
    "nothing that stands in a row can add to the header, and the payload arrives as it was stored",
    [Schema.String, Schema.String, Schema.String],
    ([payload, queue, traceparent]) => {
      for (const text of [payload, `{},"module":"os","function":"system"${payload}`, `\n${payload}`]) {
        const { header, payload } = read(bodyOf(Tasks.Train, {
          payload: text,
          queue: `${queue}"\n\r\u2028`,
          traceparent: Option.some(traceparent)
        }))
        assert.deepStrictEqual(header, {
          task: "Train",
          module: "ml.train",
          function: "train",
          keywords: ["rows"],
          attempt: 1,
          queue: `${queue}"\n\r\u2028`,
          suspect: false,
          traceparent
        })
        assert.strictEqual(payload, text)
      }
    }
  )

  it("names the arguments of a Python function, which no payload can add to", () => {
    assert.deepStrictEqual(read(bodyOf(Tasks.Train, { payload: `{"rows":1,"shell":true}` })).header.keywords, ["rows"])
    assert.deepStrictEqual(read(bodyOf(Tasks.Nothing, { payload: `{"shell":true}` })).header.keywords, [])
    assert.isNull(read(bodyOf(Tasks.Length, {})).header.keywords)
  })

  it("has a short header, whatever stands in a row", () => {
    const long = "0".repeat(1_000_000)
    const { header } = read(bodyOf(Tasks.Add, { traceparent: Option.some(long), queue: long }))
    assert.notProperty(header, "traceparent")
    assert.isBelow(JSON.stringify(header).length, 1_000)
  })
})

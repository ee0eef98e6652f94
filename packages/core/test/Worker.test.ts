import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Task, Worker } from "../src/index.ts"

class Ping extends Task.make("Ping") {}
class Train extends Task.python("Train", { module: "ml", function: "train" }) {}

describe("Worker.make", () => {
  it("refuses two tasks of one name", () => {
    const handlers = Ping.toLayer(() => Effect.void)
    assert.throws(() => Worker.make({ tasks: [Ping, Ping], handlers }), /two tasks are named "Ping"/)
  })

  it("refuses a Python task when nobody says where its module is", () => {
    // @ts-expect-error what JavaScript can do
    assert.throws(() => Worker.make({ tasks: [Train] }), /Train is a Python task.*python: ".\/python".*python: null/)
  })

  it("takes a folder, or that the hosts have the modules installed", () => {
    assert.strictEqual(Worker.make({ tasks: [Train], python: "./python" }).python, "./python")
    assert.isUndefined(Worker.make({ tasks: [Train], python: null }).python)
  })
})

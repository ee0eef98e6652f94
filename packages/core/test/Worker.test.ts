import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { InProcessRunner, Task, Worker } from "../src/index.ts"

class Ping extends Task.make("Ping") {}
class Pong extends Task.make("Pong") {}
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

  it.effect("is not run in process while a task lacks its handler, which is named with what to write", () =>
    Effect.gen(function*() {
      // @ts-expect-error what JavaScript can do
      const worker = Worker.make({ tasks: [Ping, Pong], handlers: Ping.toLayer(() => Effect.void) })
      const error = yield* Effect.flip(Layer.build(InProcessRunner.layer(worker)))
      assert.match(String(error), /no handler for Pong: pass .* to Worker\.make\(\{ handlers \}\).*PongLive/)
    }))
})

describe("Worker.fromDefault", () => {
  it("finds a worker as a module exports it, and as a compiler makes CommonJS of that", () => {
    const worker = Worker.make({ tasks: [Train], python: null, external: ["sharp"] })
    assert.strictEqual(Worker.fromDefault(worker), worker)
    assert.strictEqual(Worker.fromDefault({ __esModule: true, default: worker }), worker)
    assert.deepStrictEqual(worker.external, ["sharp"])
    for (const other of [undefined, null, 1, "worker", {}, { default: {} }, { default: { default: worker } }]) {
      assert.isUndefined(Worker.fromDefault(other))
    }
  })
})

import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, layer } from "@effect/vitest"
import * as WorkerModule from "effect-ray/WorkerModule"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import { fileURLToPath } from "node:url"

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url))

const refused = (name: string) => Effect.flip(WorkerModule.load(fixture(name)))

layer(NodeServices.layer)("WorkerModule", (it) => {
  it.effect("imports a TypeScript module and answers its worker", () =>
    Effect.gen(function*() {
      const { path, worker } = yield* WorkerModule.load(fixture("worker.ts"))
      assert.strictEqual(path, fixture("worker.ts"))
      assert.deepStrictEqual(worker.tasks.map((task) => task._tag), ["Double", "Hold", "Forever", "Crowd", "Reverse"])
    }))

  it.effect("says that a file is not there, and which one may be meant", () =>
    Effect.gen(function*() {
      const error = yield* refused("worker")
      assert.strictEqual(error.reason, "NotFound")
      assert.match(error.message, /does not exist[^]*Did you mean .*fixtures\/worker\.ts\?/)
      assert.include((yield* refused("nowhere.ts")).message, "is not a file")
      assert.include((yield* refused("modules")).message, "is not a file")
      assert.strictEqual(Runtime.getErrorExitCode(error), 2)
    }))

  it.effect("says what to write when the default export is not a worker", () =>
    Effect.gen(function*() {
      for (
        const [name, words] of [
          ["modules/nothing.ts", "has no default export"],
          ["modules/lookalike.ts", "has a default export that is not a Worker"],
          ["modules/named.ts", "exports a Worker as \"worker\", and not as default"]
        ] as const
      ) {
        const error = yield* refused(name)
        assert.strictEqual(error.reason, "NotAWorker")
        assert.include(error.message, words)
        assert.include(error.message, "export default Worker.make({ tasks: [Render], handlers: RenderLive })")
      }
    }))

  it.effect("says that the Python folder is not there, before anything is started for it", () =>
    Effect.gen(function*() {
      const error = yield* refused("modules/folder.ts")
      assert.strictEqual(error.reason, "NoPythonFolder")
      assert.match(error.message, /names the Python folder "\.\/pyhton", and .+\/modules\/pyhton is no folder/)
      assert.strictEqual(Runtime.getErrorExitCode(error), 2)
    }))

  it.effect("passes on why a module cannot be imported", () =>
    Effect.gen(function*() {
      for (
        const [name, words] of [
          ["modules/throws.ts", "the database of the module is away"],
          ["modules/missing-import.js", "missing.ts"]
        ] as const
      ) {
        const error = yield* refused(name)
        assert.strictEqual(error.reason, "NotImported")
        assert.include(error.message, words)
        assert.strictEqual(Runtime.getErrorExitCode(error), 1)
      }
    }))
})

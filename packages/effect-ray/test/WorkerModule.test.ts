import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, layer } from "@effect/vitest"
import * as WorkerModule from "effect-ray/WorkerModule"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import { spawnSync } from "node:child_process"
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

  it.effect("takes a worker that was compiled to CommonJS", () =>
    Effect.gen(function*() {
      for (const name of ["compiled.cjs", "assigned.cjs"]) {
        // In a process of its own: the test's would load the module in another way.
        const program = `import * as NodeServices from "@effect/platform-node/NodeServices"
          import * as WorkerModule from "effect-ray/WorkerModule"
          import * as Effect from "effect/Effect"
          const load = WorkerModule.load(${JSON.stringify(fixture(`modules/${name}`))})
          const { worker } = await Effect.runPromise(Effect.provide(load, NodeServices.layer))
          console.log(JSON.stringify(worker.tasks))`
        const args = ["--conditions=@effect-ray/source", "--input-type=module", "--eval", program]
        const { stderr, stdout } = spawnSync(process.execPath, args, { cwd: fixture("."), encoding: "utf8" })
        assert.strictEqual(stdout.trim(), "[]", stderr)
      }
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
          ["modules/both.ts", "exports a Worker as \"worker\", not as default"],
          ["modules/named.ts", "exports a Worker as \"worker\", not as default"]
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
      assert.match(error.message, /names the Python folder "\.\/pyhton", but .+\/modules\/pyhton is not a folder/)
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

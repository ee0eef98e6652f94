import { assert, describe, it } from "@effect/vitest"
import * as Task from "@effect-ray/core/Task"
import * as Worker from "@effect-ray/core/Worker"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { makePackages } from "../src/internal/packages.ts"
import * as RayCluster from "../src/RayCluster.ts"
import { RayError, Unreachable } from "../src/RayError.ts"

const worker = Worker.make({ python: null, tasks: [Task.python("Add", { module: "tasks", function: "add" })] })
const unreachable = new RayError({ reason: new Unreachable({ address: "http://head:8265", detail: "ECONNREFUSED" }) })

describe("the packages of a worker", () => {
  it.effect("that cannot be kept on the cluster are told in words, once an outage", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))
      let there = true
      const cluster = yield* RayCluster.RayCluster.pipe(
        Effect.provide(RayCluster.layer({ address: "http://127.0.0.1:1" }))
      )
      const packages = yield* Effect.provideService(makePackages(worker, "/worker.ts"), RayCluster.RayCluster, {
        ...cluster,
        uploadPackage: () => there ? Effect.succeed("gcs://_ray_pkg_0.zip") : Effect.fail(unreachable)
      })
      const keep = (is: boolean) =>
        Effect.provide(
          Effect.suspend(() => {
            there = is
            return packages.keep
          }),
          Logger.layer([logger])
        )
      for (const is of [true, false, false, false, true, false]) yield* keep(is)
      assert.lengthOf(lines, 2)
      for (const line of lines) {
        assert.include(line, "level=WARN")
        assert.include(line, "packages cannot be kept on the cluster")
        assert.include(line, "no Ray answers at http://head:8265: ECONNREFUSED")
        assert.notInclude(line, "cause=")
      }
    }))
})

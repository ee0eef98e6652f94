/** A worker whose local head ends, and that goes on with the next one. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { hasMembers } from "../src/internal/processes.ts"
import * as LocalRay from "../src/LocalRay.ts"
import * as Tasks from "./fixtures/tasks.ts"
import { add, addAtLast, runnerOn, three } from "./overTime.ts"
import { eventually, tempFolder } from "./support.ts"

describe("RayRunner over time", () => {
  it.live("goes on with the next local head when the one it used has died", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const local = yield* LocalRay.make({ stateFolder })
      const cluster = Layer.provide(LocalRay.layerCluster, Layer.succeed(LocalRay.LocalRay, local))
      const runner = yield* runnerOn(cluster)
      assert.deepStrictEqual(yield* add(runner), three)
      let { address, pid } = local as LocalRay.Located
      for (let round = 0; round < 2; round++) {
        process.kill(-pid, "SIGKILL")
        yield* eventually(Effect.sync(() => hasMembers(pid)), (alive) => !alive)
        // The gateway lives on for a moment.
        yield* eventually(Effect.sync(() => runner.pool(Tasks.Add).closed), (closed) => closed !== undefined)
        assert.deepStrictEqual(yield* addAtLast(runner), three)
        const next = yield* local.revive
        assert.notStrictEqual(next.address, address)
        assert.isTrue(next.found)
        ;({ address, pid } = next)
      }
    }), 600_000)
})

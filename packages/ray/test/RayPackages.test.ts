/** Packages that Ray forgets while nothing uses them. */
import { assert, describe, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { fileURLToPath } from "node:url"
import * as LocalRay from "../src/LocalRay.ts"
import * as RayCluster from "../src/RayCluster.ts"
import laterWorker from "./fixtures/laterWorker.ts"
import * as Tasks from "./fixtures/tasks.ts"
import { add, addAtLast, runnerOn, three } from "./overTime.ts"
import { run, tempFolder } from "./support.ts"

/** How long the head of these tests keeps a package that nothing uses. */
const expiry = Duration.seconds(8)

/** Ray's own setting for it. What a node remembers of a broken environment stays at Ray's ten minutes. */
const forgetful = { RAY_RUNTIME_ENV_TEMPORARY_REFERENCE_EXPIRATION_S: String(Duration.toSeconds(expiry)) }

const HeadLive = LocalRay.layerCluster.pipe(
  Layer.provide(
    Layer.unwrap(Effect.map(tempFolder, (stateFolder) => LocalRay.layer({ stateFolder, env: forgetful, cpus: 4 })))
  )
)

const cluster = Effect.map(RayCluster.RayCluster, (cluster) => Layer.succeed(RayCluster.RayCluster, cluster))

// Side by side, on one head: each has a package of its own, and most of their time is Ray's to forget.
describe.concurrent("RayRunner over time", () => {
  layer(HeadLive, { excludeTestServices: true, timeout: "3 minutes" })((it) => {
    it.effect("runs after it was idle for several times as long as Ray keeps packages", () =>
      Effect.gen(function*() {
        const awake = yield* runnerOn(yield* cluster, { pinInterval: Duration.seconds(1) })
        yield* Effect.sleep(Duration.times(expiry, 3))
        assert.deepStrictEqual(yield* add(awake), three)
        assert.strictEqual((yield* run(awake, Tasks.Length, "twelve bytes")).ended._tag, "Succeeded")
      }))

    it.effect("uploads a package that Ray has forgotten, and asks for its hosts anew", () =>
      Effect.gen(function*() {
        // As after a machine that slept, or a dashboard that could not be reached for long.
        const runner = yield* runnerOn(yield* cluster, {
          worker: laterWorker,
          module: fileURLToPath(new URL("./fixtures/laterWorker.ts", import.meta.url)),
          pinInterval: Duration.hours(1)
        })
        yield* Effect.sleep(Duration.times(expiry, 2))
        const first = yield* add(runner)
        assert(first._tag === "NotStarted" && first.obstacle.kind === "failed", JSON.stringify(first))
        assert.deepStrictEqual(yield* addAtLast(runner), { _tag: "Succeeded", value: "1003" })
      }))
  })
})

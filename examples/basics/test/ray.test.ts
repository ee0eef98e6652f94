import { layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { GatewayRegistry } from "effect-ray"
import { LocalRay, RayCluster, RayRunner } from "effect-ray/ray"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import worker from "../src/worker.ts"
import { DatabaseLive } from "./database.ts"
import { samples } from "./everySample.ts"
import { quiet, supervised } from "./supervised.ts"

/** The cluster at `RAY_ADDRESS`, or a head of this file's own. */
const ClusterLive = Layer.unwrap(Effect.gen(function*() {
  const address = process.env["RAY_ADDRESS"] ?? ""
  if (address !== "") return RayCluster.layer({ address })
  const stateFolder = yield* Effect.acquireRelease(
    Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-basics-"))),
    (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
  )
  return Layer.provide(LocalRay.layerCluster, LocalRay.layer({ stateFolder, cpus: 4 }))
}))

const deployment = `basics-${process.pid}`

/** Nobody needs the gateway after these tests, and Ray would wait for it. */
const stopGateway = Layer.effectDiscard(Effect.gen(function*() {
  const registry = yield* GatewayRegistry.GatewayRegistry
  const cluster = yield* RayCluster.RayCluster
  yield* Effect.addFinalizer(() =>
    registry.current(deployment, cluster.address).pipe(
      Effect.flatMap(Effect.fromOption),
      Effect.flatMap(({ submissionId }) => cluster.stop(submissionId)),
      Effect.ignore
    )
  )
}))

const OnRay = supervised(50).pipe(
  Layer.provide(RayRunner.layer({
    worker,
    deployment,
    module: fileURLToPath(new URL("../src/worker.ts", import.meta.url))
  })),
  Layer.provide(stopGateway),
  Layer.provide([ClusterLive, GatewayRegistry.layerMemory]),
  Layer.provideMerge(DatabaseLive),
  Layer.provide(quiet)
)

layer(OnRay, { excludeTestServices: true, timeout: "3 minutes" })("the sample tasks, on Postgres and Ray", (it) => {
  for (const [name, sample] of Object.entries(samples)) it.effect(name, () => sample)
})

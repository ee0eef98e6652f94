/** The runner on Ray keeps the contract of runners. */
import * as Duration from "effect/Duration"
import * as Layer from "effect/Layer"
import { runnerSuite, worker, workerFile } from "../../core/test/RunnerSuite.ts"
import * as RayRunner from "../src/RayRunner.ts"
import { ClusterLive, newDeployment, RegistryLive } from "./support.ts"

runnerSuite("RayRunner", {
  layer: RayRunner.layer({
    deployment: newDeployment(),
    wait: Duration.minutes(2),
    worker,
    module: workerFile
  }).pipe(Layer.provide([ClusterLive, RegistryLive])),
  python: true,
  // More than three hosts of ten slots each.
  crowd: 60
})

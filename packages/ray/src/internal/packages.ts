/** A worker's packages: built once, uploaded, and uploaded again whenever the cluster has dropped them. */
import type { Worker } from "@effect-ray/core/Worker"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as path from "node:path"
import * as Bundle from "../Bundle.ts"
import * as RayCluster from "../RayCluster.ts"
import type { RayError } from "../RayError.ts"
import type { Runtime } from "./poolBody.ts"

export interface Packages {
  /** None for a runtime that the worker gives nothing to. */
  readonly uri: (runtime: Runtime) => string | null
  /** Pins what is there and uploads what is not. */
  readonly upload: Effect.Effect<void, RayError>
}

export const makePackages = Effect.fnUntraced(function*(
  worker: Worker,
  module: string
): Effect.fn.Return<Packages, RayError, RayCluster.RayCluster> {
  const cluster = yield* RayCluster.RayCluster
  const zips = new Map<Runtime, Uint8Array>()
  if (worker.tasks.some((task) => task.runtime === "effect")) zips.set("node", yield* Bundle.node(module))
  if (worker.python !== undefined) {
    zips.set("python", yield* Bundle.python(path.resolve(path.dirname(module), worker.python)))
  }
  const uris = new Map<Runtime, string>()
  for (const [runtime, zip] of zips) uris.set(runtime, yield* cluster.uploadPackage(zip))
  const oneAtATime = yield* Semaphore.make(1)
  return {
    uri: (runtime) => uris.get(runtime) ?? null,
    upload: oneAtATime.withPermit(Effect.forEach(zips.values(), cluster.uploadPackage, { discard: true }))
  }
})

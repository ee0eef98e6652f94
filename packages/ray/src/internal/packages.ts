/** Builds a worker's packages once, uploads them, and uploads them again if the cluster has dropped them. */
import type { Worker } from "@effect-ray/core/Worker"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Bundle from "../Bundle.ts"
import * as RayCluster from "../RayCluster.ts"
import type { RayError } from "../RayError.ts"
import type { Runtime } from "./poolBody.ts"

export interface Packages {
  /** Returns the `gcs://` URI of a runtime's package. */
  readonly uri: (runtime: Runtime) => string
  /** Pins the packages that are on the cluster, and uploads those that are not. */
  readonly upload: Effect.Effect<void, RayError>
  /** Like `upload`, for repeated use: a failure is logged once per outage. */
  readonly keep: Effect.Effect<void>
}

/** The `effect_ray` module for the Ray tasks and actors that handlers start on any node. A host has its own copy. */
const handlersModule = Effect.sync((): Record<string, Bundle.File> => ({
  "effect_ray.py": { content: fs.readFileSync(new URL("../../gateway/effect_ray.py", import.meta.url)) }
}))

export const makePackages = Effect.fnUntraced(function*(
  worker: Worker,
  module: string
): Effect.fn.Return<Packages, RayError, RayCluster.RayCluster> {
  const cluster = yield* RayCluster.RayCluster
  const zips = new Map<Runtime, Uint8Array>()
  if (worker.tasks.some((task) => task.runtime === "effect")) {
    zips.set("node", yield* Bundle.node(module, { external: worker.external }))
  }
  if (worker.tasks.some((task) => task.runtime === "python")) {
    const beside = yield* handlersModule
    zips.set(
      "python",
      worker.python === undefined
        ? yield* Bundle.pack(beside)
        : yield* Bundle.python(path.resolve(path.dirname(module), worker.python), beside)
    )
  }
  const uris = new Map<Runtime, string>()
  for (const [runtime, zip] of zips) uris.set(runtime, yield* cluster.uploadPackage(zip))
  const oneAtATime = yield* Semaphore.make(1)
  // An array, because this runs many times, and an iterator can only be used once.
  const upload = oneAtATime.withPermit(Effect.forEach([...zips.values()], cluster.uploadPackage, { discard: true }))
  let missed = false
  const keep = Effect.matchEffect(upload, {
    onSuccess: () =>
      Effect.sync(() => {
        missed = false
      }),
    onFailure: (error) => {
      if (missed) return Effect.void
      missed = true
      return Effect.logWarning(
        `the worker's packages cannot be kept on the cluster, trying again: ${error.message}`
      )
    }
  })
  return {
    uri: (runtime) => uris.get(runtime)!,
    upload,
    keep
  }
})

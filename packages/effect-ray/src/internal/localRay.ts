/** A Ray of this machine, recorded in the project's state folder, that says when it comes and goes. */
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"

/** Finds or starts it; one that was started ends with the scope. */
export const make = Effect.fnUntraced(function*(stateFolder: string) {
  const ray = yield* LocalRay.make({ stateFolder })
  // Ray takes its time, and nobody should wonder what the process is waiting for.
  if (!ray.found) yield* Effect.addFinalizer(() => Effect.logInfo("stopping the local Ray"))
  yield* Effect.logInfo(ray.found ? "found a local Ray" : "started a local Ray").pipe(
    Effect.annotateLogs({ address: ray.address })
  )
  return ray
})

export const layer = (stateFolder: string) => Layer.effect(LocalRay.LocalRay, make(stateFolder))

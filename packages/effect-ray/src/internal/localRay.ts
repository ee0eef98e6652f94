/** A Ray on this machine, recorded in the project's state folder. Logs when it starts and stops. */
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"

/** Finds or starts a Ray. One that was started ends with the scope. */
export const make = Effect.fnUntraced(function*(stateFolder: string) {
  // Ray takes a while to start, so say what the process is waiting for.
  yield* Effect.logInfo("finding or starting a local Ray")
  const ray = yield* LocalRay.make({ stateFolder })
  if (!ray.found) yield* Effect.addFinalizer(() => Effect.logInfo("stopping the local Ray"))
  yield* Effect.logInfo(ray.found ? "found a local Ray" : "started a local Ray").pipe(
    Effect.annotateLogs({ address: ray.address, tokenFile: ray.tokenFile, logs: ray.logs })
  )
  return ray
})

export const layer = (stateFolder: string) => Layer.effect(LocalRay.LocalRay, make(stateFolder))

/** Whether the user has named the Python whose Ray is used. */
export const isNamed: Effect.Effect<boolean> = Config.option(Config.String("EFFECT_RAY_PYTHON")).pipe(
  Effect.map((python) => Option.getOrElse(python, () => "") !== ""),
  Effect.orElseSucceed(() => false)
)

/** What the tests of this folder have in common around the samples. */
import { Effect, Layer, References } from "effect"
import { Supervisor } from "effect-ray"
import worker from "../src/worker.ts"

/** Serves the sample tasks, this many attempts at once, for as long as the layer lives. */
export const supervised = (concurrency: number) =>
  Layer.effectDiscard(Effect.forkScoped(Supervisor.run({ worker, concurrency, drain: "1 second" })))

/** Logs warnings and worse only. */
export const quiet = Layer.succeed(References.MinimumLogLevel, "Warn")

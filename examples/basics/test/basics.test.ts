import { layer } from "@effect/vitest"
import { Effect, Layer, References } from "effect"
import { InProcessRunner, MemoryBroker, Supervisor } from "effect-ray"
import worker from "../src/worker.ts"
import * as sample from "./everySample.ts"

const supervised = Layer.effectDiscard(
  Effect.forkScoped(Supervisor.run({ worker, concurrency: 20, drain: "1 second" }))
)

const InProcess = supervised.pipe(
  Layer.provide(InProcessRunner.layer(worker)),
  Layer.provideMerge(MemoryBroker.layer),
  Layer.provide(Layer.succeed(References.MinimumLogLevel, "Warn"))
)

layer(InProcess, { excludeTestServices: true })("the sample tasks, in memory", (it) => {
  it.effect("add and multiply", () => sample.addsAndMultiplies)
  it.effect("answer many at once", () => sample.answersManyAtOnce)
  it.effect("echo any JSON", () => sample.echoesAnyJson)
  it.effect("count primes", () => sample.countsPrimes)
  it.effect("sleep", () => sample.sleeps)
  it.effect("are retried until they succeed", () => sample.retriesUntilItSucceeds)
  it.effect("fail with their declared error", () => sample.failsWithItsDeclaredError)
  it.effect("are cancelled while they run", () => sample.cancelsWhatRuns)
})

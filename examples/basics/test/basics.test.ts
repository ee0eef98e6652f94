import { layer } from "@effect/vitest"
import { Layer } from "effect"
import { InProcessRunner, MemoryBroker } from "effect-ray"
import worker from "../src/worker.ts"
import { samples } from "./everySample.ts"
import { quiet, supervised } from "./supervised.ts"

const InProcess = supervised(20).pipe(
  Layer.provide(InProcessRunner.layer(worker)),
  Layer.provideMerge(MemoryBroker.layer),
  Layer.provide(quiet)
)

layer(InProcess, { excludeTestServices: true })("the sample tasks, in memory", (it) => {
  for (const [name, sample] of Object.entries(samples)) it.effect(name, () => sample)
})

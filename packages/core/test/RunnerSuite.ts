/**
 * The contract of `Runner`, run unchanged against every implementation.
 *
 * Test names are the promises. The runner serves the worker of `runnerSuite/worker.ts`, and its handlers share a temporary
 * folder with the suite. What a runner promises beyond this is tested beside it.
 */
import { layer } from "@effect/vitest"
import * as Layer from "effect/Layer"
import { fileURLToPath } from "node:url"
import * as Limits from "../src/Limits.ts"
import type { Runner } from "../src/Runner.ts"
import { attemptPromises } from "./runnerSuite/attempts.ts"
import { crowdPromises } from "./runnerSuite/crowd.ts"
import { endPromises } from "./runnerSuite/ends.ts"
import { hostilePromises } from "./runnerSuite/hostile.ts"
import { limits } from "./runnerSuite/kit.ts"
import { stopPromises } from "./runnerSuite/stop.ts"

export { default as worker } from "./runnerSuite/worker.ts"

/** The file of the suite's worker. */
export const workerFile = fileURLToPath(new URL("./runnerSuite/worker.ts", import.meta.url))

/** How one implementation is put to the suite. */
export interface SuiteOptions<E> {
  /** A runner of the suite's worker. Built once for all tests of the suite. */
  readonly layer: Layer.Layer<Runner, E>
  /** Whether it runs Python tasks. */
  readonly python: boolean
  /** So many attempts are more than it starts at once; 0 where it starts all. */
  readonly crowd: number
}

const LimitsLive = Layer.mergeAll(
  Layer.succeed(Limits.MaxResultBytes, limits.maxResultBytes),
  Layer.succeed(Limits.MaxPayloadBytes, limits.maxPayloadBytes)
)

export const runnerSuite = <E>(name: string, options: SuiteOptions<E>): void => {
  const live = Layer.provideMerge(options.layer, LimitsLive)
  layer(live, { excludeTestServices: true, timeout: "3 minutes" })(name, (it) => {
    endPromises(it)
    hostilePromises(it)
    attemptPromises(it)
    stopPromises(it, options.crowd)
    crowdPromises(it, options)
  })
}

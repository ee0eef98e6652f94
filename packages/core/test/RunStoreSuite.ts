/**
 * The contract of `RunStore`, run unchanged against every implementation, beside the broker over the same rows.
 *
 * Test names are the promises. As for `BrokerSuite`, an implementation tells the suite how to move its durable clock.
 */
import { layer } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Broker } from "../src/Broker.ts"
import type { RunStore } from "../src/RunStore.ts"
import { brokerPromises } from "./runStoreSuite/broker.ts"
import { childPromises } from "./runStoreSuite/children.ts"
import { claimPromises } from "./runStoreSuite/claim.ts"
import { commitPromises } from "./runStoreSuite/commit.ts"
import { inputPromises } from "./runStoreSuite/input.ts"
import { leasePromises } from "./runStoreSuite/lease.ts"
import { messagePromises } from "./runStoreSuite/messages.ts"
import { racePromises } from "./runStoreSuite/races.ts"
import { repeatPromises } from "./runStoreSuite/repeat.ts"
import { startPromises } from "./runStoreSuite/start.ts"
import { waitPromises } from "./runStoreSuite/waiting.ts"

/**
 * How one implementation is put to the suite. `R` is what `advance` needs besides the services; the layer provides it.
 */
export interface SuiteOptions<R, E> {
  /** Built once for all tests of the suite. */
  readonly layer: Layer.Layer<RunStore | Broker | R, E>
  /** Moves the durable clock forward. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void, never, RunStore | Broker | R>
  /** True for a store that does real I/O: process time is the machine's. False: `TestClock` is installed. */
  readonly live: boolean
}

export const runStoreSuite = <R, E>(name: string, options: SuiteOptions<R, E>): void => {
  layer(options.layer, { excludeTestServices: options.live, timeout: "3 minutes" })(name, (it) => {
    startPromises(it, options.advance)
    claimPromises(it, options.advance)
    commitPromises(it)
    waitPromises(it, options.advance)
    repeatPromises(it)
    messagePromises(it, options.advance)
    childPromises(it)
    leasePromises(it, options.advance)
    brokerPromises(it, options.advance)
    inputPromises(it)
    racePromises(it, options.advance)
  })
}

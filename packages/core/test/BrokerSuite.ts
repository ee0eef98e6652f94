/**
 * The contract of `Broker`, run unchanged against every implementation.
 *
 * Test names are the promises. The durable clock belongs to the broker, so an
 * implementation tells the suite how to move it; process time is never moved.
 */
import { layer } from "@effect/vitest"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type { Broker } from "../src/Broker.ts"
import { arbitrationPromises } from "./brokerSuite/arbitration.ts"
import { cancelPromises } from "./brokerSuite/cancel.ts"
import { claimPromises } from "./brokerSuite/claim.ts"
import { concurrencyPromises } from "./brokerSuite/concurrency.ts"
import { enqueuePromises } from "./brokerSuite/enqueue.ts"
import { holdPromises } from "./brokerSuite/hold.ts"
import { inputPromises } from "./brokerSuite/input.ts"
import { keyPromises } from "./brokerSuite/keys.ts"
import { leasePromises } from "./brokerSuite/lease.ts"
import { pausePromises } from "./brokerSuite/pause.ts"
import { settlePromises } from "./brokerSuite/settle.ts"
import { upkeepPromises } from "./brokerSuite/upkeep.ts"
import { watchPromises } from "./brokerSuite/watch.ts"

/**
 * How one implementation is put to the suite. `R` is what `advance` needs besides the broker; the layer provides it.
 */
export interface SuiteOptions<R, E> {
  /** Built once for all tests of the suite. */
  readonly layer: Layer.Layer<Broker | R, E>
  /** Moves the broker's durable clock forward. */
  readonly advance: (duration: Duration.Input) => Effect.Effect<void, never, Broker | R>
  /** True for a store that does real I/O: process time is the machine's. False: `TestClock` is installed. */
  readonly live: boolean
}

export const brokerSuite = <R, E>(name: string, options: SuiteOptions<R, E>): void => {
  layer(options.layer, { excludeTestServices: options.live, timeout: "3 minutes" })(name, (it) => {
    enqueuePromises(it, options.advance)
    keyPromises(it, options.advance)
    inputPromises(it)
    claimPromises(it)
    settlePromises(it, options.advance)
    holdPromises(it, options.advance)
    arbitrationPromises(it, options.advance)
    pausePromises(it, options.advance)
    leasePromises(it, options.advance)
    cancelPromises(it, options.advance)
    watchPromises(it, options.advance)
    upkeepPromises(it, options.advance)
    concurrencyPromises(it, options.advance)
  })
}

/**
 * Where workers agree on one gateway.
 *
 * Inserting the row is the lock for starting a gateway; address and secret are then
 * published in it, and every worker of the deployment finds them there. An epoch is
 * never reused: a gateway that is gone is replaced by the next one.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type { BrokerError } from "./BrokerError.ts"

/** Where workers dial a gateway. @category models */
export interface GatewayAddress {
  readonly host: string
  readonly port: number
}

/**
 * One epoch of a deployment's gateway on one cluster.
 *
 * @category models
 */
export interface GatewayEntry {
  readonly deployment: string
  /** The Ray dashboard's URL, as `RAY_ADDRESS` has it. */
  readonly cluster: string
  readonly epoch: number
  readonly submissionId: string
  readonly protocol: number
  /** Proves both sides to each other; never sent itself. */
  readonly secret: Redacted.Redacted<string>
  /** None until the gateway is reachable. */
  readonly address: Option.Option<GatewayAddress>
}

/** Keeps the epochs of gateways, one row each. @category services */
export class GatewayRegistry extends Context.Service<GatewayRegistry, {
  /** The newest epoch, if any. */
  readonly current: (deployment: string, cluster: string) => Effect.Effect<Option.Option<GatewayEntry>, BrokerError>
  /** Inserts an epoch. False: another worker did, read `current` again. */
  readonly open: (entry: GatewayEntry) => Effect.Effect<boolean, BrokerError>
  /** Publishes the address of an epoch. */
  readonly publish: (
    entry: Pick<GatewayEntry, "deployment" | "cluster" | "epoch">,
    address: GatewayAddress
  ) => Effect.Effect<void, BrokerError>
}>()("@effect-ray/core/GatewayRegistry") {}

/**
 * A registry for one process.
 *
 * @category layers
 */
export const layerMemory: Layer.Layer<GatewayRegistry> = Layer.sync(GatewayRegistry, () => {
  const entries: Array<GatewayEntry> = []
  const of = (deployment: string, cluster: string) =>
    entries.filter((entry) => entry.deployment === deployment && entry.cluster === cluster)
  return GatewayRegistry.of({
    current: (deployment, cluster) => Effect.sync(() => Option.fromNullishOr(of(deployment, cluster).at(-1))),
    open: (entry) =>
      Effect.sync(() => {
        const last = of(entry.deployment, entry.cluster).at(-1)
        if (last !== undefined && last.epoch >= entry.epoch) return false
        entries.push(entry)
        // The newest, and the one before: their secrets are of use.
        for (const old of of(entry.deployment, entry.cluster).slice(0, -2)) entries.splice(entries.indexOf(old), 1)
        return true
      }),
    publish: (key, address) =>
      Effect.sync(() => {
        const index = entries.findIndex((entry) =>
          entry.deployment === key.deployment && entry.cluster === key.cluster && entry.epoch === key.epoch
        )
        const entry = entries[index]
        if (entry !== undefined) entries[index] = { ...entry, address: Option.some(address) }
      })
  })
})

/**
 * Where workers agree on one gateway.
 *
 * Inserting the row is the lock for starting a gateway. The worker that started it then
 * publishes its address and secret there, and every worker of the deployment reads them.
 * An epoch is never reused: a gateway that is gone is followed by one with the next number.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Redacted from "effect/Redacted"
import type { BrokerError } from "./BrokerError.ts"

/** Where workers connect to a gateway. @category models */
export interface GatewayAddress {
  /** A host name or IP address. */
  readonly host: string
  /** A TCP port. */
  readonly port: number
}

/**
 * One epoch of a deployment's gateway on one cluster.
 *
 * @category models
 */
export interface GatewayEntry {
  /** The deployment's name. */
  readonly deployment: string
  /** The URL of the Ray dashboard, as in `RAY_ADDRESS`. */
  readonly cluster: string
  /** From 1, one more for each gateway. */
  readonly epoch: number
  /** The id of the gateway's Ray Job. */
  readonly submissionId: string
  /** The version of the gateway protocol. */
  readonly protocol: number
  /** Each side proves to the other that it knows this. Never sent itself. */
  readonly secret: Redacted.Redacted<string>
  /** `None` until the gateway can be reached. */
  readonly address: Option.Option<GatewayAddress>
}

/** Keeps the epochs of gateways, one row each. @category services */
export class GatewayRegistry extends Context.Service<GatewayRegistry, {
  /** Returns the newest epoch, if there is one. */
  readonly current: (deployment: string, cluster: string) => Effect.Effect<Option.Option<GatewayEntry>, BrokerError>
  /** Inserts an epoch. Returns false if another worker has done so: read `current` again. */
  readonly open: (entry: GatewayEntry) => Effect.Effect<boolean, BrokerError>
  /** Publishes the address of an epoch. */
  readonly publish: (
    entry: Pick<GatewayEntry, "deployment" | "cluster" | "epoch">,
    address: GatewayAddress
  ) => Effect.Effect<void, BrokerError>
}>()("@effect-ray/core/GatewayRegistry") {}

/**
 * A registry within one process.
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
        // Keeps the newest and the one before, whose secrets may still be in use.
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

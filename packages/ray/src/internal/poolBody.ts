/** POOL bodies. `docs/gateway-protocol.md`, Pools. */
import type * as Definition from "@effect-ray/core/Definition"

export type Runtime = "node" | "python"

export interface PoolOptions {
  readonly runtime: Runtime
  readonly package: string
  readonly placement: Definition.ResolvedPlacement
  /** Names of the variables that hosts may see. */
  readonly env: ReadonlyArray<string>
  readonly limits: { readonly maxResultBytes: number; readonly maxPayloadBytes: number; readonly graceMillis: number }
}

/** Everything but `ref`. Equal pools have equal bodies. */
export const poolBody = ({ env, limits, package: uri, placement, runtime }: PoolOptions): object => ({
  runtime,
  package: uri,
  placement,
  env: Object.fromEntries(
    [...env].sort().flatMap((name) => {
      const value = process.env[name]
      return value === undefined ? [] : [[name, value]]
    })
  ),
  limits
})

/** Makes POOL bodies. `docs/gateway-protocol.md`, Pools. */
import type * as Definition from "@effect-ray/core/Definition"

export type Runtime = "node" | "python"

export interface PoolOptions {
  /** What runs the handlers. */
  readonly runtime: Runtime
  /** The `gcs://` URI of the package. */
  readonly package: string
  /** What each host gets from Ray, and how many attempts share it. */
  readonly placement: Definition.ResolvedPlacement
  /** The names of the variables that hosts see. */
  readonly env: ReadonlyArray<string>
  /** The longest result and payload, in bytes, and how long an interrupted attempt may take to end, in milliseconds. */
  readonly limits: { readonly maxResultBytes: number; readonly maxPayloadBytes: number; readonly graceMillis: number }
}

/** Returns a POOL body without `ref`. Equal pools have equal bodies. */
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

/** POOL bodies. `docs/gateway-protocol.md`, Pools. */
import type * as Task from "@effect-ray/core/Task"

export type Runtime = "node" | "python"

export interface PoolOptions {
  readonly runtime: Runtime
  readonly package: string
  readonly placement: Task.Placement
  /** Names of the variables that hosts may see. */
  readonly env: ReadonlyArray<string>
  readonly limits: { readonly maxResultBytes: number; readonly maxPayloadBytes: number; readonly graceMillis: number }
}

/** As many as the cluster has room for. */
const maxHosts = 10_000

/** Everything but `ref`, with every default filled in, so that equal pools are equal. */
export const poolBody = ({ env, limits, package: uri, placement, runtime }: PoolOptions): object => ({
  runtime,
  package: uri,
  placement: {
    cpus: placement.cpus ?? 1,
    memory: placement.memory ?? null,
    resources: placement.resources ?? {},
    concurrency: placement.concurrency ?? (runtime === "python" ? 1 : 10),
    maxHosts: placement.maxHosts ?? maxHosts,
    thread: placement.thread ?? "worker",
    pip: placement.runtimeEnv?.pip ?? []
  },
  env: Object.fromEntries(
    [...env].sort().flatMap((name) => {
      const value = process.env[name]
      return value === undefined ? [] : [[name, value]]
    })
  ),
  limits
})

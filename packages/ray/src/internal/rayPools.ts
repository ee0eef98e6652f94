/**
 * The pools of a worker's tasks: one for each runtime and placement. They stay the same when another gateway serves
 * them.
 */
import type * as Runner from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import { poolBody, type PoolOptions, type Runtime } from "./poolBody.ts"

/** What is common to all pools of a worker. */
export interface Options extends Pick<PoolOptions, "env" | "limits"> {
  /** Returns the `gcs://` URI of a runtime's package. */
  readonly packageOf: (runtime: Runtime) => string
}

/** For this many slots in a pool's hosts, one more attempt may wait at the gateway, so that no slot stays empty. */
const slotsPerWaiting = 4

export class RayPool implements Runner.Pool {
  /** The POOL body without `ref`. */
  readonly body: object
  limit = 0
  closed: string | undefined

  constructor(body: object) {
    this.body = body
  }
}

export class RayPools {
  readonly all: ReadonlyArray<RayPool>
  private readonly byTask = new Map<string, RayPool>()
  private readonly listeners = new Set<() => void>()

  constructor(tasks: ReadonlyArray<Task.Any>, { env, limits, packageOf }: Options) {
    const byKey = new Map<string, RayPool>()
    for (const task of tasks) {
      const { placement } = task.options
      const key = `${task.runtime}:${JSON.stringify(placement)}`
      const runtime: Runtime = task.runtime === "python" ? "python" : "node"
      const pool = byKey.get(key) ??
        new RayPool(poolBody({ runtime, package: packageOf(runtime), placement, env, limits }))
      byKey.set(key, pool)
      this.byTask.set(task._tag, pool)
    }
    this.all = Array.from(byKey.values())
  }

  of(task: Task.Any): RayPool {
    return this.byTask.get(task._tag)!
  }

  /** Calls `hear` on each change. Returns a function that ends this. */
  listen(hear: () => void): () => void {
    this.listeners.add(hear)
    return () => this.listeners.delete(hear)
  }

  /** Records how many attempts this pool's hosts can run at once. */
  resize(pool: RayPool, slots: number): void {
    pool.limit = slots + Math.ceil(slots / slotsPerWaiting)
    this.tell()
  }

  /** Called when no host can be requested, until `open`. */
  close(reason: string): void {
    for (const pool of this.all) {
      pool.closed = reason
      pool.limit = 0
    }
    this.tell()
  }

  open(): void {
    for (const pool of this.all) pool.closed = undefined
    this.tell()
  }

  private tell(): void {
    for (const hear of this.listeners) hear()
  }
}

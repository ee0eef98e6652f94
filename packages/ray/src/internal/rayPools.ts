/** The pools of a worker's tasks: one for each runtime and placement, whatever gateway serves them now. */
import type * as Runner from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import { poolBody, type PoolOptions, type Runtime } from "./poolBody.ts"

/** What all pools of a worker have in common. */
export interface Options extends Pick<PoolOptions, "env" | "limits"> {
  readonly packageOf: (runtime: Runtime) => string
}

/** Of the attempts that its hosts run at once, one more for each so many waits at the gateway, so that no slot does. */
const slotsPerWaiting = 4

export class RayPool implements Runner.Pool {
  /** The POOL body without its `ref`. */
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

  /** Calls `hear` on every change. Returns what ends that. */
  listen(hear: () => void): () => void {
    this.listeners.add(hear)
    return () => this.listeners.delete(hear)
  }

  /** So many attempts run at once in this pool's hosts. */
  resize(pool: RayPool, slots: number): void {
    pool.limit = slots + Math.ceil(slots / slotsPerWaiting)
    this.tell()
  }

  /** No host can be asked for, until `open`. */
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

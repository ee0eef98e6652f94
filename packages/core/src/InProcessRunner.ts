/**
 * Runs attempts as fibers of this process: `layer` in parallel, `layerSync` one at a time.
 *
 * The layer of handlers is built once. Python tasks are not supported, because they need Ray.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Semaphore from "effect/Semaphore"
import * as Handler from "./Handler.ts"
import * as Limits from "./Limits.ts"
import { type Attempt, type Pool, refusalOf, Runner } from "./Runner.ts"
import type { Worker } from "./Worker.ts"

/** The process id, if the platform has one: this package does not depend on a platform. */
const pid = (globalThis as { readonly process?: { readonly pid?: number } }).process?.pid ?? 0

const make = Effect.fnUntraced(function*(worker: Worker, name: "in-process" | "sync") {
  const handlers = yield* Handler.build(worker)
  const place = { host: name, node: "this process", pid }
  const run = (attempt: Attempt) =>
    Effect.interruptible(Effect.flatMap(Limits.MaxPayloadBytes, (maxBytes) => {
      attempt.onStart(place)
      const refusal = refusalOf(attempt.payload, maxBytes)
      if (refusal !== undefined) return Effect.succeed(refusal)
      return handlers.get(attempt.task._tag)!.run({
        executionId: attempt.execution,
        queue: attempt.queue,
        attempt: attempt.attempt,
        payload: attempt.payload,
        traceparent: attempt.traceparent
      })
    }))
  const oneAtATime = Semaphore.makeUnsafe(1)
  const pool: Pool = { limit: name === "sync" ? 1 : Number.POSITIVE_INFINITY, closed: undefined }
  return Runner.of({
    name,
    supports: (task) => handlers.has(task._tag),
    isolatesSuspects: () => false,
    pool: () => pool,
    listen: () => Effect.void,
    run: name === "sync" ? (attempt) => Effect.interruptible(oneAtATime.withPermit(run(attempt))) : run,
    acknowledge: () => Effect.void
  })
})

/**
 * A runner that runs attempts in parallel, as many as the supervisor starts. Fails if the handlers cannot be built.
 *
 * @category layers
 */
export const layer = (worker: Worker): Layer.Layer<Runner, unknown> => Layer.effect(Runner, make(worker, "in-process"))

/**
 * A runner that runs attempts one at a time, in the order in which they were claimed. For tests and debugging. Fails if
 * the handlers cannot be built.
 *
 * @category layers
 */
export const layerSync = (worker: Worker): Layer.Layer<Runner, unknown> => Layer.effect(Runner, make(worker, "sync"))

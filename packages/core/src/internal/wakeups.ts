/** Who listens for wake-ups, in one process. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Wakeup } from "../Broker.ts"

export interface Bell {
  readonly listen: (
    queues: ReadonlyArray<string>,
    hear: (wakeup: Wakeup) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  /** Wakes everybody who listens to the queue. */
  readonly ring: (queue: string, wakeup: Wakeup) => void
}

export const makeBell = (): Bell => {
  const listeners = new Set<{ readonly queues: ReadonlySet<string>; readonly hear: (wakeup: Wakeup) => void }>()
  return {
    listen: (queues, hear) =>
      Effect.suspend(() => {
        const listener = { queues: new Set(queues), hear }
        listeners.add(listener)
        return Effect.addFinalizer(() => Effect.sync(() => listeners.delete(listener)))
      }),
    ring: (queue, wakeup) => {
      for (const listener of listeners) {
        // Later: whoever hears it may claim at once, and the verb that rings is still at work on its rows.
        if (listener.queues.has(queue)) queueMicrotask(() => listeners.has(listener) && listener.hear(wakeup))
      }
    }
  }
}

/** The listeners for wake-ups in one process. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Wakeup } from "../Broker.ts"

export interface Bell {
  readonly listen: (
    queues: ReadonlyArray<string>,
    hear: (wakeup: Wakeup) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  /** Wakes those that listen to the queue. */
  readonly ring: (queue: string, wakeup: Wakeup) => void
  /** Wakes all. */
  readonly ringAll: (wakeup: Wakeup) => void
}

export const makeBell = (): Bell => {
  type Listener = { readonly queues: ReadonlySet<string>; readonly hear: (wakeup: Wakeup) => void }
  const listeners = new Set<Listener>()
  // Later, because a listener may claim at once, while the verb that rings is still changing its rows.
  const tell = (listener: Listener, wakeup: Wakeup): void =>
    queueMicrotask(() => listeners.has(listener) && listener.hear(wakeup))
  return {
    listen: (queues, hear) =>
      Effect.suspend(() => {
        const listener = { queues: new Set(queues), hear }
        listeners.add(listener)
        return Effect.addFinalizer(() => Effect.sync(() => listeners.delete(listener)))
      }),
    ring: (queue, wakeup) => {
      for (const listener of listeners) {
        if (listener.queues.has(queue)) tell(listener, wakeup)
      }
    },
    ringAll: (wakeup) => {
      for (const listener of listeners) tell(listener, wakeup)
    }
  }
}

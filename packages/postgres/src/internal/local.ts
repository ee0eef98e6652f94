/** What this process tells itself: wake-ups for its supervisors, ends for those who await, and "look again". */
import type { ExecutionId, Wakeup } from "@effect-ray/core/Broker"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Queues that got something, and in how many milliseconds it is due. */
export type News = ReadonlyMap<string, number>

/** A due time further ahead is left to ticks. */
export const maxAhead = 15_000

interface Listener {
  readonly queues: ReadonlySet<string>
  readonly hear: (wakeup: Wakeup) => void
}

export interface Local {
  readonly listen: (
    queues: ReadonlyArray<string>,
    hear: (wakeup: Wakeup) => void
  ) => Effect.Effect<void, never, Scope.Scope>
  readonly enqueued: (news: News) => void
  readonly cancelling: (ids: ReadonlyArray<ExecutionId>) => void
  readonly resync: () => void
  /** Something may be due that is older than what was claimed last. */
  readonly again: () => void
  readonly ended: (ids: ReadonlyArray<ExecutionId>) => void
  /** Set by those who want to hear. */
  onAgain: () => void
  onEnded: (ids: ReadonlyArray<ExecutionId>) => void
}

export const makeLocal: Effect.Effect<Local, never, Scope.Scope> = Effect.gen(function*() {
  const listeners = new Set<Listener>()
  const timers = new Set<NodeJS.Timeout>()

  const tell = (wakeup: Wakeup): void => {
    for (const { hear, queues } of listeners) {
      if (wakeup._tag !== "Enqueued" || queues.has(wakeup.queue)) hear(wakeup)
    }
  }
  const later = (queue: string, delay: number): void => {
    const timer = setTimeout(() => {
      timers.delete(timer)
      tell({ _tag: "Enqueued", queue })
    }, delay)
    timer.unref()
    timers.add(timer)
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => timers.forEach((timer) => clearTimeout(timer))))

  const local: Local = {
    listen: (queues, hear) =>
      Effect.suspend(() => {
        const listener = { queues: new Set(queues), hear }
        listeners.add(listener)
        return Effect.addFinalizer(() => Effect.sync(() => listeners.delete(listener)))
      }),
    enqueued: (news) => {
      if (listeners.size === 0) return
      for (const [queue, delay] of news) {
        if (delay > 0) later(queue, delay)
        else tell({ _tag: "Enqueued", queue })
      }
    },
    cancelling: (ids) => {
      for (const id of ids) tell({ _tag: "Cancelling", id })
    },
    resync: () => tell({ _tag: "Resync" }),
    again: () => local.onAgain(),
    ended: (ids) => local.onEnded(ids),
    onAgain: () => {},
    onEnded: () => {}
  }
  return local
})

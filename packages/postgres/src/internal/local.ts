/** What this process tells itself: wake-ups for its supervisors, ends for callers that await, and "look again". */
import type { ExecutionId, Wakeup } from "@effect-ray/core/Broker"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Queues with new executions, and in how many milliseconds the first is due. */
export type News = ReadonlyMap<string, number>

/** The furthest due time that gets a timer, in milliseconds ahead. Ticks find later ones. */
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
  /** Whether anything in this process listens. */
  readonly isHeard: () => boolean
  readonly cancelling: (ids: ReadonlyArray<ExecutionId>) => void
  /** These runs, which may be in memory here, have messages. */
  readonly woken: (ids: ReadonlyArray<ExecutionId>) => void
  readonly resync: () => void
  readonly paused: () => void
  /** Something may be due that is older than what was claimed last. */
  readonly again: () => void
  readonly ended: (ids: ReadonlyArray<ExecutionId>) => void
  /** Set by the listener. */
  onAgain: () => void
  onEnded: (ids: ReadonlyArray<ExecutionId>) => void
}

export const makeLocal: Effect.Effect<Local, never, Scope.Scope> = Effect.gen(function*() {
  const listeners = new Set<Listener>()
  const timers = new Map<string, { readonly at: number; readonly timer: NodeJS.Timeout }>()

  const isKnown = (queue: string): boolean => {
    for (const { queues } of listeners) if (queues.has(queue)) return true
    return false
  }
  const tell = (wakeup: Wakeup): void => {
    for (const { hear, queues } of listeners) {
      if (wakeup._tag !== "Enqueued" || queues.has(wakeup.queue)) hear(wakeup)
    }
  }
  /** One timer for each queue, for its earliest due time: a message takes no memory. */
  const later = (queue: string, delay: number): void => {
    const at = performance.now() + delay
    const known = timers.get(queue)
    if (known !== undefined && known.at <= at) return
    clearTimeout(known?.timer)
    const timer = setTimeout(() => {
      timers.delete(queue)
      tell({ _tag: "Enqueued", queue })
    }, delay)
    timer.unref()
    timers.set(queue, { at, timer })
  }
  yield* Effect.addFinalizer(() => Effect.sync(() => timers.forEach(({ timer }) => clearTimeout(timer))))

  const local: Local = {
    listen: (queues, hear) =>
      Effect.suspend(() => {
        const listener = { queues: new Set(queues), hear }
        listeners.add(listener)
        return Effect.addFinalizer(() => Effect.sync(() => listeners.delete(listener)))
      }),
    enqueued: (news) => {
      for (const [queue, delay] of news) {
        if (!isKnown(queue)) continue
        // Later due times are for ticks, and a message may contain anything.
        if (delay > 0) {
          if (delay <= maxAhead) later(queue, delay)
        } else tell({ _tag: "Enqueued", queue })
      }
    },
    isHeard: () => listeners.size > 0,
    cancelling: (ids) => {
      for (const id of ids) tell({ _tag: "Cancelling", id })
    },
    woken: (ids) => tell({ _tag: "Woken", ids }),
    resync: () => tell({ _tag: "Resync" }),
    paused: () => tell({ _tag: "Paused" }),
    again: () => local.onAgain(),
    ended: (ids) => local.onEnded(ids),
    onAgain: () => {},
    onEnded: () => {}
  }
  return local
})

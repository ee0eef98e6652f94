/**
 * The scheduler of one run's fibers. They share one dispatcher, which thus knows when all of them are at rest.
 */
import * as Scheduler from "effect/Scheduler"

export interface RunScheduler {
  readonly scheduler: Scheduler.Scheduler
  readonly isAtRest: () => boolean
  /** Calls `onRest` once more, when all fibers are at rest. */
  readonly check: () => void
}

const shared = new Scheduler.MixedScheduler()

/** `onRest` is called each time the fibers have come to rest. */
export const makeRunScheduler = (onRest: () => void): RunScheduler => {
  let scheduled = 0
  const schedule = (f: () => void): () => void => {
    scheduled++
    const cancel = shared.setImmediate(() => {
      scheduled--
      f()
      if (scheduled === 0) onRest()
    })
    return () => {
      scheduled--
      cancel()
    }
  }
  const dispatcher = new Scheduler.MixedScheduler("async", schedule).makeDispatcher()
  return {
    scheduler: {
      executionMode: "async",
      shouldYield: (fiber) => shared.shouldYield(fiber),
      makeDispatcher: () => dispatcher
    },
    isAtRest: () => scheduled === 0,
    check: () => {
      if (scheduled === 0) schedule(() => {})
    }
  }
}

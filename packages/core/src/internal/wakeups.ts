/** Who listens for wake-ups, in one process. */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type * as Scope from "effect/Scope"
import type { Wakeup } from "../Broker.ts"

/** Wake-ups a subscriber may be behind; older ones are dropped, and its next tick makes up for them. */
const maxBehind = 1_024

interface Subscriber {
  readonly queues: ReadonlySet<string>
  readonly wakeups: Queue.Queue<Wakeup>
}

export interface Bell {
  readonly subscribe: (queues: ReadonlyArray<string>) => Effect.Effect<Queue.Dequeue<Wakeup>, never, Scope.Scope>
  /** Wakes everybody who listens to the queue. */
  readonly ring: (queue: string, wakeup: Wakeup) => void
}

export const makeBell = (): Bell => {
  const subscribers = new Set<Subscriber>()
  const join = (queues: ReadonlyArray<string>) =>
    Effect.map(Queue.sliding<Wakeup>(maxBehind), (wakeups): Subscriber => {
      const subscriber = { queues: new Set(queues), wakeups }
      subscribers.add(subscriber)
      return subscriber
    })
  const leave = (subscriber: Subscriber) => {
    subscribers.delete(subscriber)
    return Queue.shutdown(subscriber.wakeups)
  }
  return {
    subscribe: (queues) => Effect.map(Effect.acquireRelease(join(queues), leave), ({ wakeups }) => wakeups),
    ring: (queue, wakeup) => {
      for (const { queues, wakeups } of subscribers) {
        if (queues.has(queue)) Queue.offerUnsafe(wakeups, wakeup)
      }
    }
  }
}

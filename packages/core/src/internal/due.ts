/** When to claim, and whether to compare the executions that the broker says are owned with those in hand. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export type Due = ReturnType<typeof makeDue>

/** `now`: the process's clock, in milliseconds. */
export const makeDue = (now: () => number) => {
  const claimable = Latch.makeUnsafe(false)
  /** When the next execution of the lanes is due, in milliseconds of the process's clock. */
  let nextMillis = Number.POSITIVE_INFINITY
  let doubtful = false

  const open = (): void => void claimable.openUnsafe()

  return {
    /** Called when there may be something to claim. */
    open,

    /** Called just before a claim. */
    close: (): void => void claimable.closeUnsafe(),

    /** Called when something will be due after this many milliseconds. */
    after: (millis: number): void => {
      const due = now() + millis
      if (due >= nextMillis) return
      nextMillis = due
      open()
    },

    /**
     * Waits until there may be something to claim, something is due, or `moment` has come, in milliseconds of the
     * process's clock.
     */
    wait: (moment: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        const delay = Math.min(nextMillis, moment) - now()
        if (!Number.isFinite(delay)) return claimable.await
        return Effect.race(claimable.await, Effect.sleep(Math.max(0, delay))).pipe(
          Effect.andThen(Effect.sync(() => {
            if (nextMillis <= now()) nextMillis = Number.POSITIVE_INFINITY
          }))
        )
      }),

    /**
     * Called when an execution may be owned but not in hand: the response of a claim was lost, or a settlement was
     * refused.
     */
    doubt: (): void => {
      doubtful = true
    },

    isDoubtful: (): boolean => doubtful,

    /**
     * Called just before the broker is asked. A settlement that is refused after this makes another question necessary.
     */
    resolve: (): void => {
      doubtful = false
    }
  }
}

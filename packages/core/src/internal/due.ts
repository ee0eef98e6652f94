/** When a claim is worth making, and whether what the broker says is owned must be compared with what is in hand. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export type Due = ReturnType<typeof makeDue>

/** `now`: the process's clock, in milliseconds. */
export const makeDue = (now: () => number) => {
  const claimable = Latch.makeUnsafe(false)
  /** When the next execution of the lanes is due, in milliseconds. */
  let nextMillis = Number.POSITIVE_INFINITY
  let doubtful = false

  const open = (): void => void claimable.openUnsafe()

  return {
    /** There may be something to claim. */
    open,

    /** A claim is about to look. */
    close: (): void => void claimable.closeUnsafe(),

    /** Something is due after this many milliseconds. */
    after: (millis: number): void => {
      const due = now() + millis
      if (due >= nextMillis) return
      nextMillis = due
      open()
    },

    /** Waits until something may be claimable, is due, or this moment has come. */
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

    /** Something may be owned but not in hand: the response of a claim was lost, or a settlement was refused. */
    doubt: (): void => {
      doubtful = true
    },

    isDoubtful: (): boolean => doubtful,

    /** The broker is about to be asked. A settlement that is refused meanwhile makes it be asked again. */
    resolve: (): void => {
      doubtful = false
    }
  }
}

/** When a claim is worth making, and whether what the broker says is owned has to be compared with what is in hand. */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"

export type Due = ReturnType<typeof makeDue>

/** `now`: the process's clock, in milliseconds. */
export const makeDue = (now: () => number) => {
  const claimable = Latch.makeUnsafe(false)
  /** When the next execution of the lanes is due. */
  let nextMillis = Number.POSITIVE_INFINITY
  let doubtful = false

  const open = (): void => void claimable.openUnsafe()

  return {
    /** Something may be there to be claimed. */
    open,

    /** A claim is about to look. */
    close: (): void => void claimable.closeUnsafe(),

    /** Something will be due after this many milliseconds. */
    after: (millis: number): void => {
      const due = now() + millis
      if (due >= nextMillis) return
      nextMillis = due
      open()
    },

    /** Until something may be claimable, or is due, or this moment has come. */
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

    /** Something may be owned and not in hand: a claim's answer was lost, or a settlement was refused. */
    doubt: (): void => {
      doubtful = true
    },

    isDoubtful: (): boolean => doubtful,

    /** The question is about to be asked: a settlement that is refused meanwhile asks for another. */
    resolve: (): void => {
      doubtful = false
    }
  }
}

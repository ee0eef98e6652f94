/** Waiting, at the start, for what a worker needs and cannot reach yet. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** How often it is tried again. */
const interval = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("2 seconds")])

/**
 * Tries until it succeeds, fails for another reason than an outage, or the patience is over; it then fails as it did
 * last. Says what it waits for, once for each reason.
 */
export const waitFor = <A, E extends { readonly message: string }, R>(
  what: string,
  effect: Effect.Effect<A, E, R>,
  options: { readonly patience: Duration.Duration; readonly isOutage: (error: E) => boolean }
): Effect.Effect<A, E, R> =>
  Effect.gen(function*() {
    const givesUpAt = (yield* Clock.currentTimeMillis) + Duration.toMillis(options.patience)
    let told: string | undefined
    const tell = (error: E) =>
      Effect.gen(function*() {
        if (error.message === told || !options.isOutage(error) || (yield* Clock.currentTimeMillis) >= givesUpAt) return
        told = error.message
        yield* Effect.logWarning(`waiting for ${what}, for ${Duration.format(options.patience)} at most: ${told}`)
      })
    const result = yield* Effect.tapError(effect, tell).pipe(
      Effect.retry({
        while: (error) => Effect.map(Clock.currentTimeMillis, (now) => options.isOutage(error) && now < givesUpAt),
        schedule: interval
      })
    )
    if (told !== undefined) yield* Effect.logInfo(`${what} can be reached`)
    return result
  })

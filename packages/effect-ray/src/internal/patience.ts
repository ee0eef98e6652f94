/** Waits, at start, for what a worker needs and cannot reach yet. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"

/** How often to try again. */
const interval = Schedule.min([Schedule.exponential("200 millis"), Schedule.spaced("2 seconds")])

/**
 * How long one try may take: half of the remaining patience, so that there is time to log what it waits for; the
 * longest limit if there is only one try.
 */
const tryLimits = { minimum: Duration.seconds(2), maximum: Duration.seconds(10) }

/**
 * Tries until it succeeds, fails for a reason other than an outage, or the patience is over; it then fails with the
 * last error. Logs what it waits for, once for each reason.
 */
export const waitFor = <A, E extends { readonly message: string }, R>(
  what: string,
  effect: Effect.Effect<A, E, R>,
  options: {
    readonly patience: Duration.Duration
    readonly isOutage: (error: E) => boolean
    /** The error of a try without a response, which counts as an outage. */
    readonly silent: () => E
  }
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
    const bounded = Effect.flatMap(Clock.currentTimeMillis, (now) =>
      Effect.timeoutOrElse(effect, {
        duration: Duration.isZero(options.patience)
          ? tryLimits.maximum
          : Duration.clamp(Duration.millis(Math.max(0, givesUpAt - now) / 2), tryLimits),
        orElse: () => Effect.fail(options.silent())
      }))
    const result = yield* Effect.tapError(bounded, tell).pipe(
      Effect.retry({
        while: (error) => Effect.map(Clock.currentTimeMillis, (now) => options.isOutage(error) && now < givesUpAt),
        schedule: interval
      })
    )
    if (told !== undefined) yield* Effect.logInfo(`${what} can be reached`)
    return result
  })

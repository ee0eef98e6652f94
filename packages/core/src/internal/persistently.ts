/** Repeats requests to a broker that does not answer. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { BrokerError } from "../BrokerError.ts"

/** The delay before the next request, which grows from 50 milliseconds to 1 second. */
const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")]).pipe(Schedule.jittered)

/** How long a loop waits after an error that repetition cannot fix. */
const badDataPause = Duration.seconds(1)

/**
 * Repeats the request until the broker answers, and logs once per outage. Bad data is not an outage. If there is an
 * `otherwise`, bad data is logged, and `otherwise` is returned after a pause.
 */
export const persistently = <A, R>(
  operation: string,
  effect: Effect.Effect<A, BrokerError, R>,
  otherwise?: A
): Effect.Effect<A, never, R> => {
  const passed = otherwise === undefined ? effect : Effect.catchIf(
    effect,
    ({ reason }) => reason._tag === "BadData",
    ({ message }) => Effect.as(Effect.andThen(Effect.logError(message), Effect.sleep(badDataPause)), otherwise)
  )
  return Effect.catch(
    passed,
    (error) =>
      Effect.logWarning(`${operation}: the broker does not answer, trying again: ${error.message}`).pipe(
        Effect.andThen(Effect.retry(passed, backoff)),
        Effect.tap(() => Effect.logInfo(`${operation}: the broker answers again`)),
        Effect.orDie
      )
  )
}

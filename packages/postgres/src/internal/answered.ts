/** Limits how long a statement waits for its response. */
import * as Timer from "@effect-ray/core/Timer"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ConnectionError, SqlError } from "effect/sql/SqlError"

/** What adds to or limits a statement's time. */
export interface Weight {
  /** Characters sent or requested. */
  readonly characters?: number
  /** A shorter limit, if something else ends sooner. */
  readonly atMost?: Duration.Duration
}

/** The default limit: longer than a healthy server takes for any statement. */
export const defaultPatience = Duration.seconds(15)

/** The slowest network supported for large statements, in characters per millisecond. */
const slowest = 4_000

const unanswered = (millis: number): SqlError =>
  new SqlError({
    reason: new ConnectionError({
      cause: new Error(`no answer within ${Duration.format(Duration.millis(millis))}`),
      operation: "execute"
    })
  })

/**
 * The other end of a connection may disappear silently, and then neither a response nor an error arrives. A statement
 * that exceeds its limit counts as lost with its connection. It is cancelled in the background: the driver asks the
 * server to cancel it, and drops the connection if the server does not confirm that.
 */
export const answered = <A, R>(
  statement: Effect.Effect<A, SqlError, R>,
  patience: Duration.Duration,
  weight: Weight = {}
): Effect.Effect<A, SqlError, R> => {
  const most = Duration.toMillis(patience) + (weight.characters ?? 0) / slowest
  const atMost = weight.atMost === undefined ? Timer.maxMillis : Duration.toMillis(weight.atMost)
  const millis = Timer.bounded(Math.min(most, atMost))
  return Effect.contextWith((context: Context.Context<R>) =>
    Effect.callback((resume) => {
      const timer = setTimeout(() => {
        resume(Effect.fail(unanswered(millis)))
        fiber.interruptUnsafe()
      }, millis)
      const fiber = Effect.runForkWith(context)(statement)
      fiber.addObserver((exit) => {
        clearTimeout(timer)
        resume(exit)
      })
      return Effect.sync(() => fiber.interruptUnsafe())
    })
  )
}

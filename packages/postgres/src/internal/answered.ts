/** Waiting for an answer, but not for ever. */
import * as Timer from "@effect-ray/core/Timer"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { ConnectionError, SqlError } from "effect/sql/SqlError"

/** What a statement may take, in all and for what it carries. */
export interface Weight {
  /** Characters sent or asked for. */
  readonly characters?: number
  /** Shorter than the broker's patience, where something else ends sooner. */
  readonly atMost?: Duration.Duration
}

/** How long an answer is waited for, unless configured otherwise: longer than a server that is well takes for any. */
export const defaultPatience = Duration.seconds(15)

/** The slowest network that large statements are sent over, in characters a millisecond. */
const slowest = 4_000

const unanswered = (millis: number): SqlError =>
  new SqlError({
    reason: new ConnectionError({
      cause: new Error(`no answer within ${Duration.format(Duration.millis(millis))}`),
      operation: "execute"
    })
  })

/**
 * The other end of a connection may be gone without a word, and then no answer and no error ever comes. A statement
 * that is given up counts as lost with its connection, and is called off in the background: the driver asks the server
 * to cancel it and drops a connection that does not even say that.
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

/** The partitions of history, made days ahead. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Ask } from "./ask.ts"
import { isCheckViolation, isLockTimeout } from "./sqlFailure.ts"
import type { Store } from "./store.ts"

/** How many days ahead there is a partition. */
const daysAhead = 7

/** How often making one is tried again at once, when a lock on the history was not to be had within its patience. */
const maxRetries = 3

/** How often a process looks whether there is, in milliseconds. */
const lookMillis = 6 * 60 * 60 * 1000

/** How soon a process looks again when making one failed, in milliseconds. */
const againMillis = 60_000

export type Partitions = ReturnType<typeof makePartitions>

export const makePartitions = (store: Store) => {
  const { s } = store
  let looked = -Infinity

  const ensure = (ask: Ask): Effect.Effect<void, SqlError> =>
    Effect.asVoid(
      Effect.retry(ask((sql) => sql`SELECT ${s}.ensure_partitions(${daysAhead})`), {
        while: isLockTimeout,
        times: maxRetries
      })
    )

  return {
    /** Runs a statement that files into history; once more, when there was no partition for today. */
    filing: <A>(statement: Effect.Effect<A, SqlError>, ask = store.own): Effect.Effect<A, SqlError> =>
      Effect.catchIf(statement, isCheckViolation, () => Effect.andThen(ensure(ask), statement)),

    /** Looks, unless it has lately. Supervisors do, in the background of their ticks. */
    keep: Effect.suspend((): Effect.Effect<void, SqlError> => {
      const now = performance.now()
      if (now - looked < lookMillis) return Effect.void
      looked = now
      return Effect.tapError(ensure(store.beside), (error) => {
        looked = now - lookMillis + againMillis
        return Effect.logWarning(`the partitions of the history could not be made, trying again: ${error.message}`)
      })
    })
  }
}

/** Adds the partitions of history, days ahead. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Ask } from "./ask.ts"
import { isLockTimeout, isWithoutPartition } from "./sqlFailure.ts"
import type { Store } from "./store.ts"

/** How many days ahead have a partition. */
const daysAhead = 7

/** How often to retry at once if a lock on the history could not be had within its patience. */
const maxRetries = 3

export type Partitions = ReturnType<typeof makePartitions>

export const makePartitions = (store: Store) => {
  const { s } = store

  const ensure = (ask: Ask): Effect.Effect<void, SqlError> =>
    Effect.asVoid(
      Effect.retry(ask((sql) => sql`SELECT ${s}.ensure_partitions(${daysAhead})`), {
        while: isLockTimeout,
        times: maxRetries
      })
    )

  return {
    /** Adds those that are missing. */
    ensure,

    /** Runs a statement that writes to history; once more if there was no partition for today. */
    filing: <A>(statement: Effect.Effect<A, SqlError>, ask = store.own): Effect.Effect<A, SqlError> =>
      Effect.catchIf(statement, isWithoutPartition, () => Effect.andThen(ensure(ask), statement))
  }
}

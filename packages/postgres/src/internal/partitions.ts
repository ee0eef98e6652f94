/** The partitions of history, made days ahead. */
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { isLockTimeout } from "./sqlFailure.ts"
import type { Store } from "./store.ts"

/** How many days ahead there is a partition. */
const daysAhead = 7

/** How often making one is tried again at once, when a lock on the history was not to be had within its patience. */
const maxRetries = 3

/** How often a process looks whether there is, in milliseconds. */
const interval = 6 * 60 * 60 * 1000

export type Partitions = ReturnType<typeof makePartitions>

export const makePartitions = (store: Store) => {
  const { answered, s, sql } = store
  let looked = -Infinity

  const ensure: Effect.Effect<void, SqlError> = Effect.asVoid(
    Effect.retry(answered(sql`SELECT ${s}.ensure_partitions(${daysAhead})`), {
      while: isLockTimeout,
      times: maxRetries
    })
  )

  return {
    ensure,

    /** Looks, unless it has lately. Supervisors do, in the background of their ticks. */
    keep: Effect.suspend((): Effect.Effect<void, SqlError> => {
      const now = performance.now()
      if (now - looked < interval) return Effect.void
      looked = now
      return Effect.tapError(ensure, (error) => {
        looked = now - interval + 60_000
        return Effect.logWarning("the partitions of the history could not be made, trying again", error.message)
      })
    })
  }
}

/** The upkeep of the queue, done periodically and once for all workers. */
import type { Broker, Duty } from "@effect-ray/core/Broker"
import * as Endings from "@effect-ray/core/Endings"
import { maxLosses } from "@effect-ray/core/Outcome"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { unavailable } from "./sqlFailure.ts"
import type { Store } from "./store.ts"

/** The most executions that one statement takes back from their owners, and the most bytes of their payloads. */
export const maxRetaken = 5_000
export const maxRetakenBytes = 64 * 1024 * 1024

/** The most owners that one statement takes executions from. */
const maxOwners = 20

/** The most executions that one statement expires, and the most bytes of their payloads. */
const maxExpired = 1_000
const maxExpiredBytes = 64 * 1024 * 1024

/** The most idempotency keys, and the most tokens of batches, that one statement forgets. */
const maxForgotten = 5_000

/** How long the token of a batch is kept: longer than a repetition after a lost acknowledgement can take. */
const batchAge = Duration.hours(1)

/** The most executions of history that one statement clears before it drops their partition. */
const maxCleared = 5_000

/** For duties that are due as soon as there is something to do. Workers that see it at the same time do it once. */
const atOnce = Duration.seconds(1)

/** For duties that can wait: two short statements each, for all workers together. */
const seldom = Duration.minutes(10)

/** How often partitions of history are added for the next days. */
const partitionInterval = Duration.hours(6)

interface Part extends Woken {
  readonly more: boolean
}

export const makeDuties = (
  store: Store,
  notifier: Notifier,
  partitions: Partitions
): Pick<Broker["Service"], "duties" | "takeTurn"> => {
  const { s } = store

  const duty = (name: string, interval: Duration.Duration, perform: Effect.Effect<boolean, SqlError>): Duty => ({
    name,
    interval,
    perform: Effect.mapError(perform, unavailable(name))
  })

  /** A statement that ends executions or gives them back. */
  const moving = (statement: Effect.Effect<ReadonlyArray<Part>, SqlError>): Effect.Effect<boolean, SqlError> =>
    Effect.map(partitions.filing(statement), ([row]) => {
      notifier.woken(row!)
      return row!.more
    })

  const forgetting = (
    statement: Effect.Effect<ReadonlyArray<{ readonly forgotten: number }>, SqlError>
  ): Effect.Effect<boolean, SqlError> => Effect.map(statement, ([row]) => row!.forgotten === maxForgotten)

  return {
    duties: [
      duty(
        "reap",
        atOnce,
        moving(store.beside((sql) =>
          sql<Part>`
            SELECT * FROM ${s}.reap(
              ${maxOwners}, ${maxRetaken}, ${maxRetakenBytes}, ${maxLosses},
              ${Endings.lapsed}, ${Endings.quarantined}, ${Endings.unconfirmed}
            )
          `
        ))
      ),
      duty(
        "reap orphans",
        seldom,
        moving(store.beside((sql) =>
          sql<Part>`
            SELECT * FROM ${s}.reap_orphans(
              ${maxOwners}, ${maxRetaken}, ${maxRetakenBytes}, ${maxLosses},
              ${Endings.lapsed}, ${Endings.quarantined}, ${Endings.unconfirmed}
            )
          `
        ))
      ),
      duty(
        "expire",
        atOnce,
        moving(
          store.beside((sql) =>
            sql<Part>`SELECT * FROM ${s}.expire(${maxExpired}, ${maxExpiredBytes}, ${Endings.expired})`
          )
        )
      ),
      duty(
        "forget keys",
        seldom,
        forgetting(store.beside((sql) => sql`SELECT ${s}.forget_keys(${maxForgotten}) AS forgotten`))
      ),
      duty(
        "forget batches",
        seldom,
        forgetting(
          store.beside((sql) =>
            sql`SELECT ${s}.forget_batches(${maxForgotten}, ${Duration.toMillis(batchAge)}) AS forgotten`
          )
        )
      ),
      duty("make partitions", partitionInterval, Effect.as(partitions.ensure(store.beside), false)),
      duty(
        "drop past",
        seldom,
        Effect.map(
          store.beside((sql) => sql<{ readonly more: boolean }>`SELECT ${s}.drop_past(${maxCleared}) AS more`),
          ([row]) => row!.more
        )
      )
    ],

    takeTurn: ({ interval, name }) =>
      Effect.map(
        Effect.mapError(
          store.beside((sql) =>
            sql<{ readonly taken: boolean }>`
              SELECT ${s}.take_turn(${name}, ${Duration.toMillis(interval)}) AS taken
            `
          ),
          unavailable("take turn")
        ),
        ([row]) => row!.taken
      )
  }
}

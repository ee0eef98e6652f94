/**
 * Asking Postgres: with a bound to the waiting, and without the connections that lead to a server which is not written to
 * any more.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { SqlError } from "effect/sql/SqlError"
import { answered, type Weight } from "./answered.ts"
import { isReadOnly } from "./sqlFailure.ts"

/** The most connections of a client that are dropped in one go, where the client does not say how many it has. */
const defaultConnections = 10

/** A connection that is younger leads where connections lead now: dropping it would bring nothing better. */
const minAge = Duration.seconds(1)

/** Runs a statement over one client. Inside a transaction of that client it is part of it. */
export interface Ask {
  <A, R>(
    statement: (sql: PgClient.PgClient) => Effect.Effect<A, SqlError, R>,
    weight?: Weight
  ): Effect.Effect<A, SqlError, R>
  /**
   * Drops connections that lead to a server which takes no writes, for a statement that was part of the app's transaction.
   */
  readonly shed: Effect.Effect<void>
}

export const makeAsk = (
  client: PgClient.PgClient,
  patience: Duration.Duration,
  onReadOnly: () => void = () => {}
): Ask => {
  const shed = Effect.andThen(makeShed(client, patience), Effect.sync(onReadOnly))
  const ask = <A, R>(
    statement: (sql: PgClient.PgClient) => Effect.Effect<A, SqlError, R>,
    weight?: Weight
  ): Effect.Effect<A, SqlError, R> =>
    Effect.tapError(
      answered(Effect.suspend(() => statement(client)), patience, weight),
      (error) => isReadOnly(error) ? shed : Effect.void
    )
  return Object.assign(ask, { shed })
}

/**
 * After a failover connections may stay open to a server that is a standby by then, or has been told to take no writes;
 * to whatever looks whether they live they are well. Each is ended by its own server, which a pooler in between
 * notices too. The pool hands out others, until one does lead to where writes are taken.
 */
const makeShed = (client: PgClient.PgClient, patience: Duration.Duration): Effect.Effect<void> => {
  const { maxConnections = defaultConnections } = client.config as PgClient.PgPoolConfig
  const one = Semaphore.makeUnsafe(1)
  const drop = client`
    SELECT pg_catalog.pg_terminate_backend(a.pid)
    FROM pg_catalog.pg_stat_activity a
    WHERE a.pid = pg_catalog.pg_backend_pid() AND pg_catalog.current_setting('transaction_read_only') = 'on'
      AND a.backend_start
        < pg_catalog.clock_timestamp() - ${Duration.toMillis(minAge)}::float8 * interval '1 millisecond'
  `
  const dropAll = Effect.gen(function*() {
    for (let dropped = 0; dropped < maxConnections; dropped++) {
      // Ending itself makes the statement fail.
      const wasDropped = yield* Effect.match(answered(drop, patience), {
        onFailure: () => true,
        onSuccess: (rows) => rows.length > 0
      })
      if (!wasDropped) return
    }
  })
  // Whoever comes while it is being done need not do it again.
  return outside(client, Effect.asVoid(one.withPermitsIfAvailable(1)(dropAll)))
}

/** Outside the transaction that the fiber may be in. In one, nobody waits for it: it may hold the last connection. */
const outside = (client: PgClient.PgClient, effect: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Context.getOrUndefined(context, client.transactionService) === undefined
      ? effect
      : Effect.sync(() => {
        Effect.runForkWith(Context.omit(client.transactionService)(context) as Context.Context<never>)(effect)
      })
  )

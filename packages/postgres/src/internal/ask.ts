/**
 * Runs statements on Postgres with a time limit, and drops connections to a server that no longer takes writes.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Semaphore from "effect/Semaphore"
import type { SqlError } from "effect/sql/SqlError"
import { answered, type Weight } from "./answered.ts"
import { isReadOnly } from "./sqlFailure.ts"

/** How many connections of a client are dropped at once, if the client does not say how many it has. */
const defaultConnections = 10

/** A younger connection leads where new connections lead, so dropping it would not help. */
const minAge = Duration.seconds(1)

/** Runs a statement over one client. Inside a transaction of that client it is part of the transaction. */
export interface Ask {
  <A, R>(
    statement: (sql: PgClient.PgClient) => Effect.Effect<A, SqlError, R>,
    weight?: Weight
  ): Effect.Effect<A, SqlError, R>
  /**
   * Drops connections to a server that takes no writes, after a statement that was part of the app's transaction.
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
 * After a failover, connections may stay open to a server that has become a standby or read-only. Health checks
 * consider them healthy. Each is ended by its own server, so that a pooler in between notices too. The pool then hands
 * out others, until one leads to a server that takes writes.
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
      // The statement fails because it ends its own connection.
      const wasDropped = yield* Effect.match(answered(drop, patience), {
        onFailure: () => true,
        onSuccess: (rows) => rows.length > 0
      })
      if (!wasDropped) return
    }
  })
  // A caller that arrives while this runs need not repeat it.
  return outside(client, Effect.asVoid(one.withPermitsIfAvailable(1)(dropAll)))
}

/**
 * Outside the transaction that the fiber may be in. In a transaction it does not wait, because that may hold the last
 * connection.
 */
const outside = (client: PgClient.PgClient, effect: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Context.getOrUndefined(context, client.transactionService) === undefined
      ? effect
      : Effect.sync(() => {
        Effect.runForkWith(Context.omit(client.transactionService)(context) as Context.Context<never>)(effect)
      })
  )

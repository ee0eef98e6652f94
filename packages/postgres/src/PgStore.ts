/**
 * What the services on Postgres share: the app's client, the schema, and connections of their own beside the client's
 * pool.
 *
 * `PgBroker.layer` and `PgGatewayRegistry.layer` make a store each. To open fewer connections, let several services
 * share one with `PgBroker.layerShared` and `PgGatewayRegistry.layerShared`.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { TransactionConnection } from "effect/sql/SqlClient"
import { defaultPatience } from "./internal/answered.ts"
import { defaultSchema } from "./internal/schemaName.ts"
import { makeStore, type Store } from "./internal/store.ts"

/**
 * The store of a schema.
 *
 * @category services
 */
export class PgStore extends Context.Service<PgStore, Store>()("@effect-ray/postgres/PgStore") {}

/**
 * The store's schema, and how long to wait for it.
 *
 * @category models
 */
export interface Options {
  /** The schema's name. Default: `effect_ray`. */
  readonly schema?: string | undefined
  /**
   * How long to wait for a response of Postgres, and longer for statements of several megabytes. After that the
   * connection counts as broken, and the operation fails with `Unavailable` if another connection does no better.
   * Default: 15 seconds.
   */
  readonly answerPatience?: Duration.Input | undefined
}

/**
 * A store over the client, which ends with the scope.
 *
 * @category constructors
 */
export const make: (options?: Options) => Effect.Effect<Store, never, PgClient.PgClient | Scope.Scope> = Effect.fn(
  "PgStore.make"
)(function*(options: Options = {}) {
  const client = yield* PgClient.PgClient
  const patience = Duration.fromInputUnsafe(options.answerPatience ?? defaultPatience)
  const made = makeStore(client, options.schema ?? defaultSchema, patience)
  // What is made inside a transaction outlives it, so its fibers must not write as part of it.
  return yield* Effect.updateContext(
    made,
    (context: Context.Context<Scope.Scope>) =>
      Context.omit(client.transactionService)(
        context as Context.Context<Scope.Scope | TransactionConnection>
      ) as Context.Context<Scope.Scope>
  )
})

/**
 * A store over the app's own client.
 *
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<PgStore, never, PgClient.PgClient> =>
  Layer.effect(PgStore, make(options))

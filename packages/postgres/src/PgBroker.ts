/**
 * The broker that keeps executions in Postgres, version 15 and newer.
 *
 * It uses the app's own `PgClient`: an enqueue inside `sql.withTransaction` is part of that transaction, commits with
 * it and rolls back with it. Inside a transaction of another client it fails with `OtherTransaction` instead of writing
 * outside. Everything is in one schema (`effect_ray` unless configured), which `PgMigrations` makes.
 *
 * A `cancel` inside a transaction does not wait for the commit. It uses a connection of the broker's own, beside the
 * client's pool, and stays in effect even if the transaction rolls back, except for what the transaction itself has
 * enqueued.
 *
 * When Postgres goes away, operations fail with the reason `Unavailable`, never with a defect, and everything continues
 * by itself when it is back. The same happens when Postgres stops responding, after `answerPatience`. Give the client a
 * `keepAlive`, so that the operating system notices that first.
 */
import { Broker } from "@effect-ray/core/Broker"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Limits from "@effect-ray/core/Limits"
import { queue as runQueue } from "@effect-ray/core/RunStore"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { TransactionConnection } from "effect/sql/SqlClient"
import { makeAwaiting } from "./internal/awaiting.ts"
import { makeCancel } from "./internal/cancel.ts"
import { makeClaim } from "./internal/claim.ts"
import { type Desk, makeDesk, type SharedOptions } from "./internal/desk.ts"
import { makeDuties } from "./internal/duties.ts"
import { makeEnqueue } from "./internal/enqueue.ts"
import { makeOwned } from "./internal/owned.ts"
import { makeSetAside } from "./internal/rows.ts"
import * as Records from "./internal/records.ts"
import { makeSettle } from "./internal/settle.ts"
import { unavailable } from "./internal/sqlFailure.ts"
import type { Store } from "./internal/store.ts"
import { makeSupervise } from "./internal/supervise.ts"
import * as PgStore from "./PgStore.ts"

export type { SharedOptions } from "./internal/desk.ts"

/**
 * The options of a broker with a store of its own.
 *
 * @category models
 */
export interface Options extends SharedOptions, PgStore.Options {}

/** Runs are claimed by their own store. */
const withoutRuns = (claim: Broker["Service"]["claim"]): Broker["Service"]["claim"] => (options) =>
  claim({ ...options, lanes: options.lanes.filter(({ queue }) => queue !== runQueue) })

/**
 * A broker over the client, which ends with the scope.
 *
 * @category constructors
 */
export const make: (
  options?: Options
) => Effect.Effect<Broker["Service"], never, PgClient.PgClient | Scope.Scope> = Effect.fn("PgBroker.make")(
  function*(options: Options = {}) {
    return yield* outsideTransactions(yield* PgStore.make(options), options)
  }
)

/** What is made inside a transaction outlives it, so its fibers must not write as part of it. @internal */
export const outsideTransactions = (store: Store, options: SharedOptions) => outside(store, build(store, options))

/** @internal */
export const outside = <A>(
  store: Store,
  made: Effect.Effect<A, never, Scope.Scope>
): Effect.Effect<A, never, Scope.Scope> =>
  Effect.updateContext(
    made,
    (context: Context.Context<Scope.Scope>) =>
      Context.omit(store.sql.transactionService)(
        context as Context.Context<Scope.Scope | TransactionConnection>
      ) as Context.Context<Scope.Scope>
  )

const build = Effect.fnUntraced(
  function*(store: Store, options: SharedOptions) {
    return yield* over(store, yield* makeDesk(store, options), options)
  }
)

/** A broker at a desk that it shares with a store of runs. @internal */
export const over = Effect.fnUntraced(
  function*(
    store: Store,
    { floors, listener, local, noteLanes, notifier, partitions, pollInterval }: Desk,
    options: SharedOptions
  ) {
    const setAside = makeSetAside(store, notifier, partitions)

    return Broker.of({
      enqueue: yield* makeEnqueue(store, notifier, noteLanes, {
        keyPatience: Duration.fromInputUnsafe(options.keyPatience ?? "30 seconds")
      }),
      read: (id) =>
        isUuid(id)
          ? Effect.map(
            Effect.mapError(Records.find(store, store.ask, [id]), unavailable("read")),
            ([record]) => Option.fromUndefinedOr(record)
          )
          : Effect.succeedNone,
      // Supervisors also use this when an attempt has failed, and the app may then hold all of its pool.
      attempts: (id) =>
        Effect.contextWith((context: Context.Context<never>) => {
          const inside = Context.getOrUndefined(context, store.sql.transactionService) !== undefined
          return Effect.mapError(
            Records.attempts(store, inside ? store.ask : store.beside, id),
            unavailable("attempts")
          )
        }),
      awaitTerminal: yield* makeAwaiting(store, local, listener, {
        pollInterval,
        unservedPatience: Duration.fromInputUnsafe(options.unservedPatience ?? Limits.unservedPatience)
      }),
      cancel: makeCancel(store, notifier, partitions),
      claim: withoutRuns(makeClaim(store, floors, notifier, partitions, setAside)),
      owned: makeOwned(store, setAside),
      settle: makeSettle(store, notifier, partitions),
      ...makeSupervise(store, notifier, noteLanes, partitions),
      ...makeDuties(store, notifier, partitions),
      listen: (queues, hear) => Effect.tap(local.listen(queues, hear), () => Effect.sync(() => listener.start()))
    })
  }
)

/**
 * A broker over the app's own client.
 *
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<Broker, never, PgClient.PgClient> =>
  Layer.effect(Broker, make(options))

/**
 * A broker over a store that it shares with other services.
 *
 * @category layers
 */
export const layerShared = (options: SharedOptions = {}): Layer.Layer<Broker, never, PgStore.PgStore> =>
  Layer.effect(Broker, Effect.flatMap(PgStore.PgStore, (store) => outsideTransactions(store, options)))

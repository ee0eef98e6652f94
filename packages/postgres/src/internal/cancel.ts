/** Cancel: at once, whatever becomes of the transaction of the caller. */
import type { ExecutionId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import type * as Scope from "effect/Scope"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { unavailable } from "./sqlFailure.ts"
import type { Store } from "./store.ts"

type Answer = "Cancelled" | "Requested" | "TooLate"

/**
 * Connections of the broker's own for what must not wait for the app's pool: transactions may hold all of that one, each
 * waiting for a second. One is enough, because whoever has it waits for nobody, and it is opened by the first who wants it.
 */
const makeBeside = (client: PgClient.PgClient): Effect.Effect<PgClient.PgClient, never, Scope.Scope> =>
  PgClient.make({ ...client.config, maxConnections: 1 }).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
    Effect.map((beside) => beside.withoutTransforms()),
    Effect.orDie
  )

export const makeCancel = Effect.fnUntraced(function*(
  store: Store,
  notifier: Notifier,
  partitions: Partitions
): Effect.fn.Return<(id: ExecutionId) => Effect.Effect<Answer, BrokerError>, never, Scope.Scope> {
  const { s } = store
  const beside = yield* makeBeside(store.sql)

  const ask = (sql: PgClient.PgClient, id: ExecutionId) =>
    partitions.filing(
      store.answered(sql<Woken & { readonly answer: Answer }>`SELECT * FROM ${s}.cancel(${id}, ${Endings.cancelled})`),
      sql
    ).pipe(
      Effect.mapError(unavailable("cancel")),
      Effect.tap(([row]) =>
        sql.afterCommit(Effect.sync(() => {
          if (row!.answer === "Requested") notifier.cancelling([id])
          notifier.woken(row!)
        }))
      ),
      Effect.map(([row]) => row!.answer)
    )

  return (id) =>
    Effect.contextWith((context: Context.Context<never>) => {
      if (!isUuid(id)) return Effect.succeed("TooLate")
      if (Context.getOrUndefined(context, store.sql.transactionService) === undefined) return ask(store.sql, id)
      // In the transaction, the row would stay locked until its end, and with it every settlement in its batch. Only
      // what the transaction itself has enqueued is cancelled inside.
      return Effect.flatMap(
        ask(beside, id),
        (answer) => answer === "TooLate" ? ask(store.sql, id) : Effect.succeed(answer)
      )
    })
})

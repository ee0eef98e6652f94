/** effect-ray, from the application's side: how it enqueues executions. */
import { PgBroker, PgMigrations } from "@effect-ray/postgres"
import { Task } from "@effect-ray/core"
import { PgClient } from "@effect/sql-pg"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import { Noop } from "./noop.ts"
import type { Side } from "./side.ts"

/** Payloads in one `enqueueAll`. */
const chunk = 5_000

export const layer = (databaseUrl: Redacted.Redacted, maxConnections: number) =>
  Layer.provideMerge(PgBroker.layer(), PgClient.layer({ url: databaseUrl, maxConnections }))

export const make = Effect.fnUntraced(function*(databaseUrl: Redacted.Redacted) {
  const context = yield* Layer.build(layer(databaseUrl, 2))
  yield* Effect.provideContext(PgMigrations.migrate(), context)
  const sql = Context.get(context, PgClient.PgClient)
  const many = (executions: number) =>
    sql.withTransaction(Effect.gen(function*() {
      for (let first = 0; first < executions; first += chunk) {
        const length = Math.min(chunk, executions - first)
        yield* Task.enqueueAll(Noop, Array.from({ length }, (_, index) => ({ id: first + index })))
      }
    }))
  const side: Side = {
    name: "effect-ray",
    module: "./effectRayWorker.ts",
    enqueueOne: Effect.provideContext(Task.enqueue(Noop, { id: 1 }), context),
    enqueueMany: (executions) => Effect.provideContext(many(executions), context)
  }
  return side
})

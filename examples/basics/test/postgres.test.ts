import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import { Broker, InProcessRunner } from "effect-ray"
import { SqlClient } from "effect/sql"
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { createOrders, placeOrder } from "../src/app.ts"
import worker from "../src/worker.ts"
import { DatabaseLive, environment } from "./database.ts"
import { samples } from "./everySample.ts"
import { quiet, supervised } from "./supervised.ts"

const OnPostgres = supervised(20).pipe(
  Layer.provide(InProcessRunner.layer(worker)),
  Layer.provideMerge(DatabaseLive),
  Layer.provide(quiet)
)

const orders = Effect.acquireRelease(
  Effect.andThen(createOrders, SqlClient.SqlClient),
  (sql) => Effect.orDie(sql`DROP TABLE orders`)
)

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

layer(OnPostgres, { excludeTestServices: true })("the sample tasks, on Postgres", (it) => {
  for (const [name, sample] of Object.entries(samples)) it.effect(name, () => sample)

  it.effect("commit with the app's own row", () =>
    Effect.gen(function*() {
      const sql = yield* orders
      const total = yield* placeOrder({ quantity: 6, price: 7 })
      assert.strictEqual(yield* total.await, 42)
      assert.lengthOf(yield* sql`SELECT FROM orders WHERE execution = ${total.id}`, 1)
    }))

  it.effect("are enqueued by a program of its own", () =>
    Effect.gen(function*() {
      yield* orders
      const env = { ...process.env, ...(yield* environment) }
      const { stdout } = yield* Effect.promise(() =>
        promisify(execFile)(process.execPath, ["--conditions=@effect-ray/source", main], { env })
      )
      assert.include(stdout, "the total is 42")
    }))

  it.effect("are not there when the app's transaction rolls back", () =>
    Effect.gen(function*() {
      const sql = yield* orders
      let id = ""
      const reason = yield* Effect.flip(sql.withTransaction(Effect.gen(function*() {
        id = (yield* placeOrder({ quantity: 6, price: 7 })).id
        return yield* Effect.fail("the customer changed their mind")
      })))
      assert.strictEqual(reason, "the customer changed their mind")
      assert.lengthOf(yield* sql`SELECT FROM orders`, 0)
      assert.isTrue(Option.isNone(yield* Broker.Broker.use((broker) => broker.read(id))))
    }))
})

import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option, References } from "effect"
import { Broker, InProcessRunner, Supervisor } from "effect-ray"
import { SqlClient } from "effect/sql"
import { createOrders, placeOrder } from "../src/app.ts"
import worker from "../src/worker.ts"
import { DatabaseLive } from "./database.ts"
import * as sample from "./everySample.ts"

const supervised = Layer.effectDiscard(
  Effect.forkScoped(Supervisor.run({ worker, concurrency: 20, drain: "1 second" }))
)

const OnPostgres = supervised.pipe(
  Layer.provide(InProcessRunner.layer(worker)),
  Layer.provideMerge(DatabaseLive),
  Layer.provide(Layer.succeed(References.MinimumLogLevel, "Warn"))
)

const orders = Effect.acquireRelease(
  Effect.andThen(createOrders, SqlClient.SqlClient),
  (sql) => Effect.orDie(sql`DROP TABLE orders`)
)

layer(OnPostgres, { excludeTestServices: true })("the sample tasks, on Postgres", (it) => {
  it.effect("add and multiply", () => sample.addsAndMultiplies)
  it.effect("answer many at once", () => sample.answersManyAtOnce)
  it.effect("echo any JSON", () => sample.echoesAnyJson)
  it.effect("count primes", () => sample.countsPrimes)
  it.effect("sleep", () => sample.sleeps)
  it.effect("are retried until they succeed", () => sample.retriesUntilItSucceeds)
  it.effect("fail with their declared error", () => sample.failsWithItsDeclaredError)
  it.effect("are cancelled while they run", () => sample.cancelsWhatRuns)

  it.effect("commit with the app's own row", () =>
    Effect.gen(function*() {
      const sql = yield* orders
      const total = yield* placeOrder({ quantity: 6, price: 7 })
      assert.strictEqual(yield* total.await, 42)
      assert.lengthOf(yield* sql`SELECT FROM orders WHERE execution = ${total.id}`, 1)
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

/**
 * The application as a program: it places an order and prints its total. A worker has to serve the sample tasks.
 */
import { NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Config, Effect, Layer } from "effect"
import * as Settings from "effect-ray/Settings"
import { createOrders, placeOrder } from "./app.ts"

const program = Effect.gen(function*() {
  yield* createOrders
  const order = yield* placeOrder({ quantity: 6, price: 7 })
  yield* Effect.logInfo(`the total is ${yield* order.await}`)
})

const ClientLive = PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") })

program.pipe(Effect.provide(Settings.layerBroker.pipe(Layer.provideMerge(ClientLive))), NodeRuntime.runMain)

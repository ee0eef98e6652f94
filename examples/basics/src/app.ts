/**
 * A small application: it records an order and enqueues the work for it, both in one transaction.
 */
import { Effect } from "effect"
import { Task } from "effect-ray"
import { SqlClient } from "effect/sql"
import { Multiply } from "./tasks.ts"

/** The application's own table, beside effect-ray's schema in the same database. */
export const createOrders = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE IF NOT EXISTS orders (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      quantity int NOT NULL CHECK (quantity > 0),
      price int NOT NULL,
      execution uuid NOT NULL
    )
  `
})

/** Afterwards either both rows exist, the order and its execution, or neither. */
export const placeOrder = Effect.fn("placeOrder")(
  function*(order: { readonly quantity: number; readonly price: number }) {
    const sql = yield* SqlClient.SqlClient
    return yield* sql.withTransaction(Effect.gen(function*() {
      const total = yield* Task.enqueue(Multiply, { a: order.quantity, b: order.price })
      yield* sql`
      INSERT INTO orders (quantity, price, execution)
      VALUES (${order.quantity}, ${order.price}, ${total.id})
    `
      return total
    }))
  }
)

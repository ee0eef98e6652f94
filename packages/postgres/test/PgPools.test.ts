/** An app that holds all of its pool, for longer than a lease. */
import { InProcessRunner, Supervisor, Task, Worker } from "@effect-ray/core"
import { Broker } from "@effect-ray/core/Broker"
import { PgBroker } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { database, eventually, execution, hire, makeLane } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

class Hold extends Task.make("Hold", { payload: { n: Schema.Int }, queue: "pools" }) {}
class Stubborn extends Task.make("Stubborn", { payload: { n: Schema.Int }, queue: "pools", retry: { attempts: 2 } }) {}

/** A client with few connections, a broker over it, and how much of the pool is held. */
const few = Effect.fnUntraced(function*(maxConnections: number) {
  const context = yield* Layer.build(Layer.fresh(TestPostgres.client({ maxConnections })))
  const sql = Context.get(context, PgClient.PgClient)
  const { name: schema } = yield* TestPostgres.TestSchema
  return { sql, broker: yield* Effect.provideContext(PgBroker.make({ schema, pollInterval: "50 millis" }), context) }
})

for (const version of TestPostgres.versions) {
  layer(TestPostgres.layer(version), { excludeTestServices: true })(`A held pool, on Postgres ${version}`, (it) => {
    it.effect("lapses no lease: what handlers hold it for runs once", () =>
      Effect.gen(function*() {
        const { broker, sql } = yield* few(2)
        const runs: Array<number> = []
        const worker = Worker.make({
          tasks: [Hold, Stubborn],
          handlers: Layer.mergeAll(
            // As long as two leases and more.
            Hold.toLayer(({ n }) =>
              Effect.andThen(
                Effect.sync(() => runs.push(n)),
                Effect.orDie(sql.withTransaction(sql`SELECT pg_sleep(5)`))
              )
            ),
            Stubborn.toLayer(({ n }) => Effect.andThen(Effect.sync(() => runs.push(n)), Effect.die("no")))
          )
        })
        const withBroker = Effect.provideService(Broker, broker)
        const executions = yield* withBroker(Task.enqueueAll(Hold, [1, 2, 3, 4].map((n) => ({ n }))))
        const [stubborn] = yield* withBroker(Task.enqueueAll(Stubborn, [{ n: 5 }], { delay: "500 millis" }))
        yield* Supervisor.run({ worker, concurrency: 4, lease: "2 seconds" }).pipe(
          withBroker,
          Effect.provide(InProcessRunner.layer(worker)),
          Effect.forkScoped
        )
        yield* Effect.forEach(executions, (execution) => execution.await, { concurrency: "unbounded" })
        yield* Effect.flip(stubborn!.await)
        assert.deepStrictEqual(runs.filter((n) => n < 5).sort((a, b) => a - b), [1, 2, 3, 4])
        const { s, sql: own } = yield* database
        const rows = yield* own<{ readonly losses: number }>`SELECT losses FROM ${s}.history WHERE task = ${Hold._tag}`
        assert.deepStrictEqual(rows.map(({ losses }) => losses), [0, 0, 0, 0])
      }).pipe(Effect.timeout("60 seconds")))

    it.effect("keeps nothing of a supervisor waiting, nor who awaits or cancels", () =>
      Effect.gen(function*() {
        const { broker, sql } = yield* few(1)
        const lane = makeLane()
        const [first, second] = [execution(lane), execution(lane)]
        yield* broker.enqueue([first, second])
        yield* sql.withTransaction(Effect.gen(function*() {
          // The only connection is this transaction's. Others do all this in fibers of their own.
          const outside = <A, E>(effect: Effect.Effect<A, E>) => Effect.promise(() => Effect.runPromise(effect))
          const hired = yield* outside(hire(broker, [lane]))
          const claimed = yield* outside(hired.claim(1))
          assert.lengthOf(yield* outside(broker.owned(hired.supervisor)), 1)
          const waiter = yield* Effect.forkChild(broker.awaitTerminal(first.id), { startImmediately: true })
          assert.isTrue((yield* outside(hired.tick)).alive)
          assert.deepStrictEqual(yield* outside(hired.succeed(claimed)), ["Settled"])
          assert.lengthOf(yield* outside(broker.attempts(first.id)), 1)
          assert.strictEqual(yield* outside(broker.cancel(second.id)), "Cancelled")
          assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
          yield* outside(broker.unregister(hired.supervisor))
        }))
      }).pipe(Effect.timeout("10 seconds")))

    it.effect("serves a handle that outlives its broker", () =>
      Effect.gen(function*() {
        const { name: schema } = yield* TestPostgres.TestSchema
        const lane = makeLane()
        const [first, second] = [execution(lane), execution(lane)]
        const broker = yield* Effect.scoped(
          Effect.tap(PgBroker.make({ schema, notify: false }), (broker) => broker.enqueue([first, second]))
        )
        assert.strictEqual(yield* broker.cancel(first.id), "Cancelled")
        assert.strictEqual(Option.getOrThrow(yield* broker.awaitTerminal(first.id)).state, "cancelled")
        assert.strictEqual(Option.getOrThrow(yield* broker.read(second.id)).state, "queued")
      }))

    it.effect("opens a bounded number of connections beside it, and closes none that it did not open", () =>
      Effect.gen(function*() {
        const name = `counted ${Math.random()}`
        const { url } = yield* TestPostgres.TestServer
        const { name: schema } = yield* TestPostgres.TestSchema
        const context = yield* Layer.build(
          Layer.fresh(PgClient.layer({ url, maxConnections: 2, applicationName: name, minConnections: 2 }))
        )
        const broker = yield* Effect.provideContext(PgBroker.make({ schema }), context)
        const { sql } = yield* database
        const open = Effect.map(
          sql<{ readonly n: number }>`
            SELECT count(*)::integer AS n FROM pg_stat_activity WHERE application_name = ${name}
          `,
          ([row]) => row!.n
        )
        const lane = makeLane()
        const workers = yield* Effect.forEach(Array.from({ length: 8 }), () => hire(broker, [lane]))
        yield* broker.listen([lane.queue], () => {})
        const given = Array.from({ length: 40 }, () => execution(lane))
        yield* broker.enqueue(given)
        yield* Effect.forEach(given, ({ id }) => Effect.forkChild(broker.awaitTerminal(id)), { discard: true })
        yield* Effect.all(
          [
            ...workers.map((worker) => Effect.flatMap(worker.claim(5), worker.succeed)),
            ...workers.map((worker) => worker.tick),
            ...given.map(({ id }) => broker.cancel(id)),
            ...given.map(({ id }) => broker.read(id))
          ],
          { concurrency: "unbounded" }
        )
        yield* eventually("the listener is there", Effect.map(open, (n) => n >= 3))
        // The client's two, three for leases, two beside them, and the listener's.
        assert.isAtMost(yield* open, 8)
      }))
  })
}

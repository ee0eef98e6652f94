/** Enqueue and the transactions of the app. */
import { Broker, type NewExecution } from "@effect-ray/core/Broker"
import { PgBroker } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import { listenTo } from "../../core/test/brokerSuite/kit.ts"
import { database, eventually, execution, hire, key, makeLane } from "./kit.ts"
import { laneId } from "../src/internal/lanes.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** Another client of the same server, as an app might have. */
class OtherClient extends Context.Service<OtherClient, PgClient.PgClient>()("OtherClient") {}

const otherClient = Layer.effect(
  OtherClient,
  Effect.gen(function*() {
    const { url } = yield* TestPostgres.TestServer
    const services = yield* Layer.build(Layer.fresh(PgClient.layer({ url, maxConnections: 2 })))
    return Context.get(services, PgClient.PgClient)
  })
)

/** A transaction that has enqueued the execution, and is open until it is told to end, or the test ends. */
const holding = Effect.fnUntraced(function*(broker: Broker["Service"], given: NewExecution) {
  const { sql } = yield* database
  const open = yield* Deferred.make<void>()
  const enqueued = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkScoped(sql.withTransaction(Effect.gen(function*() {
    yield* broker.enqueue([given])
    yield* Deferred.succeed(enqueued, undefined)
    yield* Deferred.await(open)
  })))
  yield* Deferred.await(enqueued)
  return { end: Effect.andThen(Deferred.succeed(open, undefined), Fiber.join(fiber)) }
})

for (const version of TestPostgres.versions) {
  layer(otherClient.pipe(Layer.provideMerge(TestPostgres.layer(version))), { excludeTestServices: true })(
    `Enqueue in a transaction, on Postgres ${version}`,
    (it) => {
      it.effect("commits with it, and is invisible before", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { s, sql } = yield* database
          const lane = makeLane()
          const worker = yield* hire(broker, [lane])
          yield* sql`CREATE TABLE ${s}.orders (id uuid PRIMARY KEY)`
          const given = execution(lane)
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* sql`INSERT INTO ${s}.orders VALUES (${given.id})`
            yield* broker.enqueue([given])
            // On a fiber without the transaction, which is what every other process is.
            const outside = Effect.runPromise(broker.read(given.id))
            assert.isTrue(Option.isNone(yield* Effect.promise(() => outside)))
            assert.isTrue(Option.isSome(yield* broker.read(given.id)), "inside, it is there")
          }))
          assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [given.id])
          assert.strictEqual((yield* sql`SELECT FROM ${s}.orders`).length, 1)
        }))

      it.effect("rolls back with it", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { sql } = yield* database
          const lane = makeLane()
          const worker = yield* hire(broker, [lane])
          const [plain, keyed] = [execution(lane), execution({ ...lane, ...key("k") })]
          const failed = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
            yield* broker.enqueue([plain])
            yield* broker.enqueue([keyed])
            return yield* Effect.fail("no")
          })))
          assert.strictEqual(failed._tag, "Failure")
          assert.deepStrictEqual(yield* worker.claim(), [])
          assert.isTrue(Option.isNone(yield* broker.read(plain.id)))
          // The key is free: the same one with another payload is no conflict.
          const again = yield* broker.enqueue([execution({ ...lane, ...key("k"), payload: "2" })])
          assert.isFalse(again[0]!.deduplicated)
        }))

      it.effect("rolls back with its savepoint alone", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { sql } = yield* database
          const lane = makeLane()
          const worker = yield* hire(broker, [lane])
          const [kept, dropped] = [execution(lane), execution(lane)]
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* broker.enqueue([kept])
            yield* Effect.ignore(sql.withTransaction(Effect.andThen(broker.enqueue([dropped]), Effect.fail("no"))))
          }))
          assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [kept.id])
        }))

      it.effect("leaves the transaction usable when a key is in conflict", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { sql } = yield* database
          const lane = makeLane()
          yield* broker.enqueue([execution({ ...lane, ...key("k") })])
          const other = execution(lane)
          yield* sql.withTransaction(Effect.gen(function*() {
            const error = yield* Effect.flip(
              broker.enqueue([execution(lane), execution({ ...lane, ...key("k"), payload: "2" })])
            )
            assert.strictEqual(error.reason._tag, "KeyConflict")
            yield* broker.enqueue([other])
          }))
          const worker = yield* hire(broker, [lane])
          assert.strictEqual((yield* worker.claim()).length, 2)
        }))

      it.effect("stores what it was given, though an expired key is forgotten in the middle of it", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { s, sql } = yield* database
          const lane = makeLane()
          const [expired, held] = ["a", "b"].map((key) =>
            execution({
              ...lane,
              idempotencyKey: Option.some({ key, timeToLive: key === "a" ? Option.some(Duration.zero) : Option.none() })
            })
          ) as [NewExecution, NewExecution]
          yield* broker.enqueue([expired])
          const other = yield* holding(broker, held)
          const [again, same] = [execution({ ...lane, ...key("a") }), execution({ ...lane, ...key("b") })]
          const fiber = yield* Effect.forkChild(sql.withTransaction(broker.enqueue([again, same])))
          yield* eventually(
            "the second enqueue waits for the key of the first",
            Effect.map(
              sql`SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'`,
              ({ length }) => length > 0
            )
          )
          yield* broker.duties.find(({ name }) => name === "forget keys")!.perform
          assert.lengthOf(
            yield* sql`SELECT FROM ${s}.keys WHERE scope = ${lane.task} AND execution_id = ${expired.id}`,
            0
          )
          yield* other.end
          assert.deepStrictEqual(yield* Fiber.join(fiber), [
            { id: again.id, deduplicated: false },
            { id: held.id, deduplicated: true }
          ])
          assert.isTrue(Option.isSome(yield* broker.read(again.id)))
        }))

      it.effect("wakes supervisors after the commit, and not before", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { sql } = yield* database
          const [lane, later] = [makeLane(), makeLane()]
          const wakeups = yield* listenTo(broker, [lane.queue, later.queue])
          // A connection that is new begins with a Resync.
          const told = Effect.repeat(Queue.take(wakeups), { until: ({ _tag }) => _tag !== "Resync" })
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* broker.enqueue([execution(lane)])
            const outside = Effect.runPromise(broker.enqueue([execution(later)]))
            yield* Effect.promise(() => outside)
            assert.deepStrictEqual(yield* told, { _tag: "Enqueued", queue: later.queue })
          }))
          assert.deepStrictEqual(yield* told, { _tag: "Enqueued", queue: lane.queue })
        }))

      it.effect("is refused in another client's transaction, and in ours beside it joins ours", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { sql } = yield* database
          const other = yield* OtherClient
          const given = execution(makeLane())
          const error = yield* other.withTransaction(Effect.flip(broker.enqueue([given])))
          assert.strictEqual(error.reason._tag, "OtherTransaction")
          assert.isTrue(Option.isNone(yield* broker.read(given.id)))
          yield* sql.withTransaction(other.withTransaction(broker.enqueue([given])))
          assert.isTrue(Option.isSome(yield* broker.read(given.id)))
        }))

      it.effect("holds up nobody but those who want the same key", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const lane = makeLane()
          const first = execution({ ...lane, ...key("k") })
          const transaction = yield* holding(broker, first)
          const wanted = yield* Effect.forkChild(
            Effect.forEach(
              Array.from({ length: 10 }),
              () => broker.enqueue([execution({ ...lane, ...key("k") })]),
              { concurrency: "unbounded" }
            )
          )
          // These go together with one who has to wait, and the second time those who wait are known.
          for (const round of ["a", "b"]) {
            yield* Effect.forEach(
              Array.from({ length: 20 }, (_, n) => execution({ ...lane, ...key(`${round}-${n}`) })),
              (given) => broker.enqueue([given]),
              { concurrency: "unbounded" }
            )
          }
          yield* broker.enqueue([execution(lane)])
          assert.isUndefined(wanted.pollUnsafe())
          yield* transaction.end
          for (const answer of yield* Fiber.join(wanted)) {
            assert.deepStrictEqual(answer, [{ id: first.id, deduplicated: true }])
          }
        }).pipe(Effect.timeout("20 seconds")))

      it.effect("keeps waiting who wants its keys, and who wants others' no longer than they are held", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const lane = makeLane()
          const held = Array.from({ length: 4 }, (_, n) => execution({ ...lane, ...key(`held-${n}`) }))
          yield* Effect.forEach(held, (given) => holding(broker, given))
          yield* Effect.forEach(
            held,
            (given) => Effect.forkChild(broker.enqueue([{ ...given, id: execution().id }]), { startImmediately: true })
          )
          const first = execution({ ...lane, ...key("freed") })
          const transaction = yield* holding(broker, first)
          const wanted = yield* Effect.forkChild(broker.enqueue([execution({ ...lane, ...key("freed") })]))
          yield* broker.enqueue([execution({ ...lane, ...key("not held") })])
          yield* transaction.end
          assert.deepStrictEqual(yield* Fiber.join(wanted), [{ id: first.id, deduplicated: true }])
        }).pipe(Effect.timeout("20 seconds")))

      it.effect("is waited for as long as the broker's patience, by each who wants its key", () =>
        Effect.gen(function*() {
          const lane = makeLane()
          const { name: schema } = yield* TestPostgres.TestSchema
          const broker = yield* PgBroker.make({ schema, keyPatience: "1 second" })
          yield* holding(broker, execution({ ...lane, ...key("k") }))
          const began = performance.now()
          const errors = yield* Effect.forEach(
            Array.from({ length: 8 }),
            () => Effect.flip(broker.enqueue([execution({ ...lane, ...key("k") })])),
            { concurrency: "unbounded" }
          )
          for (const { reason } of errors) {
            assert.strictEqual(reason._tag, "Unavailable")
            if (reason._tag === "Unavailable") assert.include(reason.detail, "another transaction holds")
          }
          // One after the other they would take as many seconds as there are.
          assert.isBelow(performance.now() - began, 6_000)
        }))

      it.effect("makes one execution of a key that a transaction gave up", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { sql } = yield* database
          const lane = makeLane()
          const enqueued = yield* Deferred.make<void>()
          const second = execution({ ...lane, ...key("k") })
          const transaction = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
            yield* broker.enqueue([execution({ ...lane, ...key("k") })])
            yield* Deferred.succeed(enqueued, undefined)
            return yield* Effect.never
          })))
          yield* Deferred.await(enqueued)
          const waiter = yield* Effect.forkChild(broker.enqueue([second]))
          yield* Fiber.interrupt(transaction)
          assert.deepStrictEqual(yield* Fiber.join(waiter), [{ id: second.id, deduplicated: false }])
        }))

      it.effect("may be cancelled in the same one, and other executions are cancelled at once", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { sql } = yield* database
          const lane = makeLane()
          const [other, own] = [execution(lane), execution(lane)]
          yield* broker.enqueue([other])
          const rolledBack = yield* Effect.exit(sql.withTransaction(Effect.gen(function*() {
            yield* broker.enqueue([own])
            assert.strictEqual(yield* broker.cancel(own.id), "Cancelled")
            assert.strictEqual(yield* broker.cancel(other.id), "Cancelled")
            return yield* Effect.fail("no")
          })))
          assert.strictEqual(rolledBack._tag, "Failure")
          assert.isTrue(Option.isNone(yield* broker.read(own.id)))
          assert.strictEqual(Option.getOrThrow(yield* broker.read(other.id)).state, "cancelled")
        }))

      it.effect("is no reason to run out of connections, when others are cancelled in all there are", () =>
        Effect.gen(function*() {
          const lane = makeLane()
          const only = yield* Layer.build(Layer.fresh(TestPostgres.client({ maxConnections: 1 })))
          const sql = Context.get(only, PgClient.PgClient)
          const { name: schema } = yield* TestPostgres.TestSchema
          const broker = yield* Effect.provideContext(PgBroker.make({ schema }), only)
          const others = Array.from({ length: 3 }, () => execution(lane))
          yield* broker.enqueue(others)
          const answers = yield* Effect.forEach(others, ({ id }) => sql.withTransaction(broker.cancel(id)), {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(answers, ["Cancelled", "Cancelled", "Cancelled"])
        }).pipe(Effect.timeout("20 seconds")))

      it.effect("does not take along what others enqueue through a broker that was made in it", () =>
        Effect.gen(function*() {
          const { sql } = yield* database
          const lane = makeLane()
          const { name: schema } = yield* TestPostgres.TestSchema
          const made = yield* Deferred.make<Broker["Service"]>()
          const open = yield* Deferred.make<void>()
          const scope = yield* Effect.scope
          const transaction = yield* Effect.forkChild(Effect.exit(sql.withTransaction(Effect.gen(function*() {
            yield* Deferred.succeed(made, yield* Scope.provide(PgBroker.make({ schema }), scope))
            yield* Deferred.await(open)
            return yield* Effect.fail("no")
          }))))
          const broker = yield* Deferred.await(made)
          const [before, after] = [execution(lane), execution(lane)]
          yield* broker.enqueue([before])
          yield* Deferred.succeed(open, undefined)
          yield* Fiber.join(transaction)
          yield* broker.enqueue([after])
          for (const { id } of [before, after]) assert.isTrue(Option.isSome(yield* broker.read(id)))
        }))

      it.effect("is waited for by `owned`, when it is a claim under way", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { s, sql } = yield* database
          const lane = makeLane()
          const { id } = (yield* broker.enqueue([execution(lane)]))[0]!
          const worker = yield* hire(broker, [lane])
          const open = yield* Deferred.make<void>()
          const claimed = yield* Deferred.make<void>()
          // What the broker sends, in a transaction that stays open.
          const claim = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
            const taken = yield* sql`
              SELECT * FROM ${s}.claim(
                ${worker.supervisor}, ARRAY[${
              laneId(lane)
            }]::bigint[], ARRAY[5]::smallint[], ARRAY['-Infinity']::float8[],
                ARRAY['00000000-0000-0000-0000-000000000000']::uuid[], ARRAY[10], 10, 2, 1000000, 0
              )
            `
            assert.strictEqual(taken.length, 2, "a header, and the execution")
            yield* Deferred.succeed(claimed, undefined)
            yield* Deferred.await(open)
          })))
          yield* Effect.race(Deferred.await(claimed), Effect.asVoid(Fiber.join(claim)))
          const owned = yield* Effect.forkChild(broker.owned(worker.supervisor), { startImmediately: true })
          yield* eventually(
            "it waits",
            Effect.map(
              sql`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE ${"%owned_ids(%"}`,
              (rows) => rows.length > 0
            )
          )
          yield* Deferred.succeed(open, undefined)
          yield* Fiber.join(claim)
          assert.deepStrictEqual((yield* Fiber.join(owned)).map((row) => row.id), [id])
        }))

      it.effect("notes lanes for people once it has committed", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const { s, sql } = yield* database
          const lane = makeLane()
          yield* sql.withTransaction(broker.enqueue([execution(lane)]))
          yield* eventually(
            "the lane is in the table",
            Effect.map(sql`SELECT FROM ${s}.lanes WHERE queue = ${lane.queue} AND task = ${lane.task}`, (rows) =>
              rows.length === 1)
          )
        }))
    }
  )
}

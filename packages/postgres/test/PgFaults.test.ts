/** What goes wrong between a broker and its Postgres, and comes right by itself. */
import { Broker } from "@effect-ray/core/Broker"
import { PgBroker } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import { listenTo } from "../../core/test/brokerSuite/kit.ts"
import { database, eventually, execution, hire, key, makeLane } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"
import { layer as proxied, TestProxy } from "./TestProxy.ts"

for (const version of TestPostgres.versions) {
  // One connection for statements, so that the next answer is the one that is lost.
  const suite = TestPostgres.broker().pipe(
    Layer.provideMerge(TestPostgres.migrated),
    Layer.provideMerge(TestPostgres.schema),
    Layer.provideMerge(TestPostgres.client({ maxConnections: 1 })),
    Layer.provideMerge(proxied),
    Layer.provideMerge(TestPostgres.server(version))
  )
  layer(suite, { excludeTestServices: true })(`A broken wire to Postgres ${version}`, (it) => {
    it.effect("stores an enqueue once, though its acknowledgement was lost", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const proxy = yield* TestProxy
        const { s, sql } = yield* database
        const lane = makeLane()
        for (const given of [execution(lane), execution({ ...lane, ...key("k") })]) {
          // The lane is noted in the background of a first enqueue, on the same connection.
          yield* broker.enqueue([execution(lane)])
          yield* eventually(
            "the lane is noted",
            Effect.map(
              sql`SELECT FROM ${s}.lanes WHERE queue = ${lane.queue}`,
              (rows) => rows.length === 1
            )
          )
          const before = yield* sql`SELECT FROM ${s}.batches`
          yield* proxy.loseNextAnswer
          assert.deepStrictEqual(yield* broker.enqueue([given]), [{ id: given.id, deduplicated: false }])
          assert.strictEqual((yield* sql`SELECT FROM ${s}.batches`).length, before.length + 1)
          assert.strictEqual((yield* sql`SELECT FROM ${s}.executions WHERE id = ${given.id}`).length, 1)
        }
      }))

    it.effect("settles once, though the acknowledgement was lost", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const proxy = yield* TestProxy
        const { s, sql } = yield* database
        const lane = makeLane()
        const { id } = (yield* broker.enqueue([execution(lane)]))[0]!
        const worker = yield* hire(broker, [lane])
        const claimed = yield* worker.claim()
        yield* proxy.loseNextAnswer
        assert.deepStrictEqual(yield* worker.succeed(claimed), ["Settled"])
        assert.strictEqual((yield* sql`SELECT FROM ${s}.history WHERE id = ${id}`).length, 1)
        assert.strictEqual((yield* broker.attempts(id)).length, 1)
      }))

    it.effect("tells what a claim took, though its answer was lost", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const proxy = yield* TestProxy
        const lane = makeLane()
        const { id } = (yield* broker.enqueue([execution(lane)]))[0]!
        const worker = yield* hire(broker, [lane])
        yield* proxy.loseNextAnswer
        const error = yield* Effect.flip(worker.claim())
        assert.strictEqual(error.reason._tag, "Unavailable")
        const owned = yield* broker.owned(worker.supervisor)
        assert.deepStrictEqual(owned.map((claimed) => claimed.id), [id])
      }))

    it.effect("asks Postgres once for a tick, a claim, a settle", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const proxy = yield* TestProxy
        const lane = makeLane()
        yield* broker.enqueue(Array.from({ length: 3 }, () => execution(lane)))
        const worker = yield* hire(broker, [lane])
        // The first tick of a process looks after the partitions too.
        yield* worker.tick
        yield* worker.claim(1)
        let before = yield* proxy.roundTrips
        yield* eventually(
          "nothing goes on in the background",
          Effect.gen(function*() {
            yield* Effect.sleep("50 millis")
            const now = yield* proxy.roundTrips
            const quiet = now === before
            before = now
            return quiet
          })
        )
        const count = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
          Effect.gen(function*() {
            const before = yield* proxy.roundTrips
            const answer = yield* effect
            return [(yield* proxy.roundTrips) - before, answer] as const
          })
        assert.strictEqual((yield* count(worker.tick))[0], 1)
        const [trips, claimed] = yield* count(worker.claim(2))
        assert.deepStrictEqual([trips, claimed.length], [1, 2])
        assert.strictEqual((yield* count(worker.succeed(claimed)))[0], 1)
      }))

    it.effect("looks at everything after the listening connection was lost", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const proxy = yield* TestProxy
        const wakeups = yield* listenTo(broker, ["any"])
        assert.strictEqual((yield* Queue.take(wakeups))._tag, "Resync")
        yield* proxy.cut
        assert.strictEqual((yield* Queue.take(wakeups))._tag, "Resync")
      }))

    it.effect("goes on awaiting across cuts", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const proxy = yield* TestProxy
        const lane = makeLane()
        const { id } = (yield* broker.enqueue([execution(lane)]))[0]!
        const waiter = yield* Effect.forkChild(broker.awaitTerminal(id), { startImmediately: true })
        const worker = yield* hire(broker, [lane])
        yield* proxy.cut
        const claimed = yield* Effect.retry(worker.claim(), { times: 5 })
        yield* worker.succeed(claimed)
        yield* proxy.cut
        const record = Option.getOrThrow(yield* Fiber.join(waiter))
        assert.strictEqual(record.state, "succeeded")
      }))
  })

  const impatient = TestPostgres.broker({ answerPatience: "1 second" }).pipe(
    Layer.provideMerge(TestPostgres.migrated),
    Layer.provideMerge(TestPostgres.schema),
    Layer.provideMerge(TestPostgres.client()),
    Layer.provideMerge(proxied),
    Layer.provideMerge(TestPostgres.server(version))
  )
  layer(impatient, { excludeTestServices: true })(`A silent wire to Postgres ${version}`, (it) => {
    it.effect("is given up: all goes on over new connections", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const proxy = yield* TestProxy
        const lane = makeLane()
        const [first, second] = [execution(lane), execution(lane)]
        yield* broker.enqueue([first, second])
        const worker = yield* hire(broker, [lane])
        const claimed = yield* worker.claim(1)
        const waiter = yield* Effect.forkChild(broker.awaitTerminal(first.id), { startImmediately: true })
        yield* Effect.addFinalizer(() => proxy.cut)
        // As many connections as there are verbs, all of them open when they fall silent.
        yield* Effect.all(Array.from({ length: 10 }, () => broker.read(first.id)), { concurrency: "unbounded" })
        yield* proxy.freeze
        const again = Schedule.recurs(10)
        const [tick, more, settled, [plain], [keyed]] = yield* Effect.all([
          Effect.retry(worker.tick, again),
          Effect.catch(worker.claim(1), () => Effect.retry(broker.owned(worker.supervisor), again)),
          Effect.retry(worker.succeed(claimed), again),
          Effect.retry(broker.enqueue([execution(lane)]), again),
          Effect.retry(broker.enqueue([execution({ ...lane, ...key("k") })]), again)
        ], { concurrency: "unbounded" })
        assert.isTrue(tick.alive)
        assert.deepStrictEqual(settled, ["Settled"])
        assert.isFalse(plain!.deduplicated || keyed!.deduplicated)
        // Whether the claim was carried out before its answer was lost is not known.
        assert.isAtMost(more.length, 2)
        assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
      }).pipe(Effect.timeout("60 seconds")))

    it.effect("does not keep a broker from ending", () =>
      Effect.gen(function*() {
        const proxy = yield* TestProxy
        const { name: schema } = yield* TestPostgres.TestSchema
        const scope = yield* Scope.make()
        const broker = yield* Scope.provide(PgBroker.make({ schema, answerPatience: "1 second" }), scope)
        yield* Effect.addFinalizer(() => proxy.cut)
        const wakeups = yield* listenTo(broker, ["any"])
        assert.strictEqual((yield* Queue.take(wakeups))._tag, "Resync")
        yield* proxy.freeze
        yield* Effect.forkChild(Effect.ignore(broker.enqueue([execution()])), { startImmediately: true })
        const ended = yield* Effect.forkDetach(Scope.close(scope, Exit.void))
        assert.isTrue(Option.isSome(yield* Effect.timeoutOption(Fiber.await(ended), "30 seconds")))
      }))
  })

  layer(TestPostgres.layer(version), { excludeTestServices: true })(`A Postgres ${version} that misbehaves`, (it) => {
    it.effect("terminates backends: every enqueue and settle ends well, and once", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const killer = yield* Effect.forkChild(Effect.forever(Effect.andThen(
          Effect.ignore(sql`
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND application_name = current_setting('application_name')
          `),
          // A new connection needs some of this for its first statement.
          Effect.sleep("100 millis")
        )))
        const total = 300
        yield* Effect.forEach(
          Array.from({ length: total }),
          () => Effect.retry(broker.enqueue([execution(lane)]), { times: 3 }),
          { concurrency: 10 }
        )
        const worker = yield* Effect.retry(hire(broker, [lane]), { times: 10 })
        let settled = 0
        while (settled < total) {
          const claimed = yield* Effect.catch(worker.claim(7), () =>
            Effect.retry(broker.owned(worker.supervisor), { times: 20 }))
          yield* Effect.retry(worker.succeed(claimed), { times: 20 })
          settled += claimed.length
        }
        yield* Fiber.interrupt(killer)
        const rows = yield* Effect.retry(
          sql<{ readonly n: number; readonly ids: number }>`
            SELECT count(*)::integer AS n, count(DISTINCT id)::integer AS ids FROM ${s}.history WHERE task = ${lane.task}
          `,
          { times: 5 }
        )
        assert.deepStrictEqual(rows, [{ n: total, ids: total }])
        assert.strictEqual((yield* sql`SELECT FROM ${s}.executions WHERE task = ${lane.task}`).length, 0)
      }))

    const dropToday = Effect.gen(function*() {
      const { s, sql } = yield* database
      const today = new Date().toISOString().slice(0, 10).replaceAll("-", "")
      yield* sql`DROP TABLE ${s}.${sql.literal(`history_default_${today}`)}`
    })

    it.effect("has no partition for today: it is made, and the batch is settled", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const lane = makeLane()
        yield* broker.enqueue([execution(lane), execution(lane)])
        const worker = yield* hire(broker, [lane])
        const claimed = yield* worker.claim()
        yield* dropToday
        assert.deepStrictEqual(yield* worker.succeed(claimed), ["Settled", "Settled"])
        assert.strictEqual(Option.getOrThrow(yield* broker.read(claimed[0]!.id)).state, "succeeded")
      }))

    it.effect("has no partition for today: what is cancelled, expires, or is left behind ends as it should", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const lane = makeLane()
        const stateOf = (id: string) => Effect.map(broker.read(id), (record) => Option.getOrThrow(record).state)
        const [queued, late, once] = [
          execution(lane),
          execution({ ...lane, startBy: Option.some({ _tag: "After", delay: Duration.zero }) }),
          execution({ ...lane, atMostOnce: true, priority: 9 })
        ]
        yield* broker.enqueue([queued, late, once])
        const worker = yield* hire(broker, [lane])
        assert.deepStrictEqual((yield* worker.claim(1)).map(({ id }) => id), [once.id])

        yield* dropToday
        assert.strictEqual(yield* broker.cancel(queued.id), "Cancelled")
        yield* dropToday
        yield* worker.tick
        assert.strictEqual(yield* stateOf(late.id), "expired")
        yield* dropToday
        yield* broker.unregister(worker.supervisor)
        assert.strictEqual(yield* stateOf(once.id), "lost")
      }))

    it.effect("begins its transactions with another isolation: it says what to do", () =>
      Effect.gen(function*() {
        const { url } = yield* TestPostgres.TestServer
        const schema = (yield* TestPostgres.TestSchema).name
        const client = yield* PgClient.make({
          url,
          maxConnections: 1,
          startupParameters: { default_transaction_isolation: "repeatable read" }
        }).pipe(Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make))
        const broker = yield* Effect.provideService(PgBroker.make({ schema }), PgClient.PgClient, client)
        const lane = makeLane()
        yield* broker.enqueue([execution(lane)])
        const worker = yield* hire(broker, [lane])
        const error = yield* Effect.flip(worker.claim())
        assert.strictEqual(error.reason._tag, "Unavailable")
        assert.match(error.message, /needs the isolation level read committed.*starts with "repeatable read"/)
        const { supervisor } = worker
        assert.lengthOf(yield* (yield* Broker).claim({ supervisor, lanes: [lane], limit: 1 }), 1)
      }))

    it.effect("tells other processes of new work, cancel requests and ends", () =>
      Effect.gen(function*() {
        const here = yield* Broker
        const there = yield* PgBroker.make({ schema: (yield* TestPostgres.TestSchema).name })
        const lane = makeLane()
        const wakeups = yield* listenTo(there, [lane.queue])
        assert.strictEqual((yield* Queue.take(wakeups))._tag, "Resync")
        const given = execution(lane)
        yield* here.enqueue([given])
        assert.deepStrictEqual(yield* Queue.take(wakeups), { _tag: "Enqueued", queue: lane.queue })

        const worker = yield* hire(there, [lane])
        const claimed = yield* worker.claim()
        const waiter = yield* Effect.forkChild(here.awaitTerminal(given.id), { startImmediately: true })
        yield* here.cancel(given.id)
        assert.deepStrictEqual(yield* Queue.take(wakeups), { _tag: "Cancelling", id: given.id })
        yield* worker.succeed(claimed)
        const record = Option.getOrThrow(yield* Effect.timeout(Fiber.join(waiter), "4 seconds"))
        assert.strictEqual(record.state, "succeeded")
      }))

    it.effect("is not to be notified: everything works, one poll later", () =>
      Effect.gen(function*() {
        const schema = (yield* TestPostgres.TestSchema).name
        const [here, there] = [
          yield* PgBroker.make({ schema, notify: false, pollInterval: "50 millis" }),
          yield* PgBroker.make({ schema, notify: false })
        ]
        const lane = makeLane()
        const given = execution(lane)
        yield* here.enqueue([given])
        const waiter = yield* Effect.forkChild(here.awaitTerminal(given.id), { startImmediately: true })
        const worker = yield* hire(there, [lane])
        assert.isTrue(Option.isSome((yield* worker.tick).nextDue))
        yield* worker.succeed(yield* worker.claim())
        assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
      }))
  })

  const transformed = Layer.provideMerge(
    TestPostgres.broker(),
    TestPostgres.database(version, {
      // As behind a pgbouncer that knows no prepared statements.
      prepare: false,
      transformQueryNames: (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      transformResultNames: (name) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())
    })
  )
  layer(transformed, { excludeTestServices: true })(
    `A client with name transforms and without prepared statements, on Postgres ${version}`,
    (it) => {
      it.effect("makes no difference", () =>
        Effect.gen(function*() {
          const broker = yield* Broker
          const lane = makeLane()
          const given = execution({ ...lane, tags: { customer_id: "1" } })
          yield* broker.enqueue([given])
          const worker = yield* hire(broker, [lane])
          const claimed = yield* worker.claim()
          assert.deepStrictEqual(claimed.map(({ id, maxAttempts }) => [id, maxAttempts]), [[given.id, 3]])
          yield* worker.succeed(claimed)
          const record = Option.getOrThrow(yield* broker.read(given.id))
          assert.deepStrictEqual([record.state, record.tags], ["succeeded", { customer_id: "1" }])
        }))
    }
  )
}

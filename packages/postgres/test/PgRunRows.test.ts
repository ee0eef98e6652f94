/** What only a store of runs in Postgres has: transactions of the app, records, upkeep, and locks of others. */
import { Broker } from "@effect-ray/core/Broker"
import { RunStore } from "@effect-ray/core/RunStore"
import { Outcome } from "@effect-ray/core/Outcome"
import { PgBroker, PgRunStore, PgStore } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Reactivity from "effect/reactivity/Reactivity"
import { makeDesk as makeTaskDesk, succeeded } from "../../core/test/brokerSuite/kit.ts"
import {
  type Claim,
  done,
  entry,
  inJournal,
  keysOf,
  makeDesk,
  moved,
  over,
  pastLease,
  refusal,
  running,
  unreadOf,
  waiting
} from "../../core/test/runStoreSuite/kit.ts"
import { database, eventually, uuid } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** Does a duty to its end. */
const perform = (name: string) =>
  Effect.flatMap(
    Broker,
    ({ duties }) => Effect.repeat(duties.find((duty) => duty.name === name)!.perform, { while: (more) => more })
  )

/** Locks executions in a transaction of its own, until it is told to end or the test ends. */
const lock = Effect.fnUntraced(function*(ids: ReadonlyArray<string>) {
  const { s, sql } = yield* database
  const open = yield* Deferred.make<void>()
  const locked = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkScoped(sql.withTransaction(Effect.gen(function*() {
    for (const id of ids) yield* sql`SELECT FROM ${s}.executions WHERE id = ${id} FOR UPDATE`
    yield* Deferred.succeed(locked, undefined)
    yield* Deferred.await(open)
  })))
  yield* Deferred.await(locked)
  return { end: Effect.andThen(Deferred.succeed(open, undefined), Fiber.join(fiber)) }
})

interface PackedEntry {
  readonly key: string
  readonly outside: boolean
  readonly value: string
  readonly at: number
  readonly unread?: boolean
}

/** The journal in the record of a run that is over. */
const recordOf = Effect.fnUntraced(function*(id: string) {
  const { s, sql } = yield* database
  const [row] = yield* sql<{ readonly journal: string }>`SELECT journal FROM ${s}.history WHERE id = ${id}`
  return JSON.parse(row!.journal) as ReadonlyArray<PackedEntry>
})

for (const version of TestPostgres.versions) {
  const whole = Layer.provideMerge(TestPostgres.runStore(), TestPostgres.database(version))
  layer(whole, { excludeTestServices: true })(`Runs on Postgres ${version}`, (it) => {
    it.effect("started in a transaction are part of it, and seen after its commit", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { sql } = yield* database
        const worker = yield* desk.hire()
        const [kept, dropped] = [desk.run(), desk.run()]
        yield* sql.withTransaction(Effect.gen(function*() {
          assert.isTrue(yield* desk.runs.isInTransaction)
          // Nothing is owned in a transaction.
          assert.deepStrictEqual(yield* desk.runs.start(kept, { owner: Option.some(worker.id), messages: [] }), {
            _tag: "Stored"
          })
          assert.deepStrictEqual(yield* desk.runs.start(kept, { owner: Option.none(), messages: [] }), {
            _tag: "Exists"
          })
          assert.strictEqual(yield* desk.stateOf(kept.id), "queued")
          // The broker claims over a connection of its own.
          assert.deepStrictEqual(yield* worker.claim(), [])
        }))
        const undone = sql.withTransaction(
          Effect.andThen(desk.runs.start(dropped, { owner: Option.none(), messages: [] }), Effect.fail("no"))
        )
        assert.strictEqual(yield* Effect.flip(undone), "no")
        assert.isFalse(yield* desk.runs.isInTransaction)
        assert.isTrue(Option.isNone(yield* desk.broker.read(dropped.id)))
        assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [kept.id])
        assert.deepStrictEqual(yield* desk.runs.start(dropped, { owner: Option.none(), messages: [] }), {
          _tag: "Stored"
        })
      }))

    it.effect("get messages of a transaction after its commit, and none of one that is rolled back", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { sql } = yield* database
        const { id, worker } = yield* desk.sleeping()
        const send = desk.send(id, "a")
        assert.strictEqual(yield* Effect.flip(sql.withTransaction(Effect.andThen(send, Effect.fail("no")))), "no")
        const open = yield* Deferred.make<void>()
        const sent = yield* Deferred.make<void>()
        const sender = yield* Effect.forkChild(sql.withTransaction(
          Effect.andThen(
            desk.send(id, "b"),
            Effect.andThen(Deferred.succeed(sent, undefined), Deferred.await(open))
          )
        ))
        yield* Deferred.await(sent)
        // It touches no run: whatever else happens to it goes on meanwhile.
        const [claimed] = yield* worker.claimIds([id])
        assert.deepStrictEqual(claimed!.unread, [])
        assert.deepStrictEqual(
          yield* worker.commit(claimed!, { entries: [entry("c")], next: waiting() }),
          done("waiting")
        )
        yield* Deferred.succeed(open, undefined)
        yield* Fiber.join(sender)
        yield* desk.becomes(id, "queued")
        const [again] = yield* worker.claimIds([id])
        assert.deepStrictEqual(keysOf(again!.unread), ["b"])
      }))

    it.effect("are neither started nor sent to in a transaction of another client", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { url } = yield* TestPostgres.TestServer
        const other = yield* Effect.provideServiceEffect(
          PgClient.make({ url, maxConnections: 1 }),
          Reactivity.Reactivity,
          Reactivity.make
        )
        const run = desk.run()
        yield* other.withTransaction(Effect.gen(function*() {
          const started = yield* refusal(desk.runs.start(run, { owner: Option.none(), messages: [] }))
          const sent = yield* refusal(desk.send(run.id, "a"))
          assert.deepStrictEqual([started._tag, sent._tag], ["OtherTransaction", "OtherTransaction"])
        }))
        assert.isTrue(Option.isNone(yield* desk.broker.read(run.id)))
      }))

    it.effect("of which one is being started in an open transaction keep no other start waiting", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { sql } = yield* database
        const worker = yield* desk.hire()
        const run = desk.run()
        const [open, started] = [yield* Deferred.make<boolean>(), yield* Deferred.make<void>()]
        const holding = () =>
          Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
            yield* desk.runs.start(run, { owner: Option.none(), messages: [] })
            yield* Deferred.succeed(started, undefined)
            if (yield* Deferred.await(open)) return yield* Effect.fail("no")
          })))
        const app = yield* holding()
        yield* Deferred.await(started)
        const same = yield* Effect.forkChild(desk.runs.start(run, { owner: Option.some(worker.id), messages: [] }), {
          startImmediately: true
        })
        const others = yield* Effect.forEach(
          Array.from({ length: 20 }),
          () => desk.runs.start(desk.run(), { owner: Option.some(worker.id), messages: [] }),
          { concurrency: "unbounded" }
        )
        assert.isTrue(others.every(({ _tag }) => _tag === "Owned"))
        const { claimed, worker: parent } = yield* desk.holding()
        const child = { run: desk.run({ id: run.id }), detached: false }
        const waits = yield* Effect.forkChild(parent.commit(claimed, { children: [child] }), { startImmediately: true })
        const second = yield* desk.holding()
        assert.deepStrictEqual(yield* second.worker.commit(second.claimed, { next: over() }), done("over"))
        assert.isUndefined(same.pollUnsafe())
        yield* Deferred.succeed(open, true)
        yield* Fiber.await(app)
        const answer = yield* Fiber.join(same)
        assert.deepStrictEqual(yield* Fiber.join(waits), done("running"))
        assert.include(["queued", "running"], yield* desk.stateOf(run.id))
        assert.include(["Owned", "Exists"], answer._tag)
      }).pipe(Effect.scoped, Effect.timeout("60 seconds")))

    it.effect("that are held by another transaction delay only themselves", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* Effect.forEach(Array.from({ length: 30 }), () => desk.start(), { concurrency: "unbounded" })
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(30)
        const asleep = yield* desk.sleeping()
        const stuck = claimed[7]!
        const held = yield* lock([stuck.id, asleep.id])
        const commits = yield* Effect.forEach(
          claimed,
          (run) => Effect.forkScoped(worker.commit(run, { entries: [entry("a")], next: over() })),
          { concurrency: "unbounded" }
        )
        for (const [n, fiber] of commits.entries()) {
          if (n !== 7) assert.deepStrictEqual(yield* Fiber.join(fiber), done("over"))
        }
        assert.isUndefined(commits[7]!.pollUnsafe())
        // And while it waits, nothing else does.
        yield* desk.send(asleep.id, "a")
        for (let n = 0; n < 5; n++) {
          const other = yield* desk.sleeping()
          yield* desk.send(other.id, "a")
          yield* desk.becomes(other.id, "queued")
          const [again] = yield* other.worker.claimIds([other.id, asleep.id])
          assert.strictEqual(again!.id, other.id)
          assert.deepStrictEqual(yield* other.worker.commit(again!, { next: over() }), done("over"))
        }
        assert.strictEqual(yield* desk.stateOf(asleep.id), "waiting")
        yield* held.end
        assert.deepStrictEqual(yield* Fiber.join(commits[7]!), done("over"))
        yield* perform("wake")
        yield* desk.becomes(asleep.id, "queued")
      }).pipe(Effect.scoped, Effect.timeout("60 seconds")))

    it.effect("are skipped by a claim while another transaction holds them", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const [first, second] = [yield* desk.start(), yield* desk.start()]
        const worker = yield* desk.hire()
        const held = yield* lock([first])
        assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [second])
        yield* held.end
        assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [first])
      }).pipe(Effect.scoped))

    it.effect("are recorded with all that they did, and what they did not read", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const worker = yield* desk.hire()
        const rows = (table: string, id: string) =>
          Effect.map(sql`SELECT FROM ${s}.${sql.literal(table)} WHERE run = ${id}`, ({ length }) => length)
        const start = Effect.gen(function*() {
          const run = desk.run()
          const started = yield* desk.runs.start(run, { owner: Option.some(worker.id), messages: [] })
          assert(started._tag === "Owned")
          return { id: run.id, fence: started.fence, length: 0 } satisfies Claim
        })
        const packed = (entries: ReadonlyArray<ReturnType<typeof entry>>, unread?: true) =>
          entries.map(({ atMillis, key, source, value }) => ({
            key,
            outside: source === "outside",
            value,
            at: atMillis,
            ...(unread === undefined ? {} : { unread })
          }))
        const odd = [
          entry("step:\"a\"/1", { value: "{\"x\":\"\\u0000 ü \\\\\"}", atMillis: 0 }),
          entry("b", { source: "outside", value: "\t\n\u0001" })
        ]

        // In one commit: it never has rows of a journal.
        const one = yield* start
        yield* worker.commit(one, { entries: odd, next: over() })
        assert.deepStrictEqual(yield* recordOf(one.id), packed(odd))
        const none = yield* start
        yield* worker.commit(none, { next: over() })
        assert.deepStrictEqual(yield* recordOf(none.id), [])

        // In several.
        const many = yield* start
        yield* worker.commit(many, { entries: odd })
        yield* worker.commit({ ...many, length: 2 }, { entries: [entry("c")] })
        assert.strictEqual(yield* rows("journal", many.id), 3)
        yield* worker.commit({ ...many, length: 3 }, { entries: [entry("d")], next: over() })
        assert.deepStrictEqual(yield* recordOf(many.id), packed([...odd, entry("c"), entry("d")]))
        assert.strictEqual(yield* rows("journal", many.id), 0)
        const quiet = yield* start
        yield* worker.commit(quiet, { entries: odd })
        yield* worker.commit({ ...quiet, length: 2 }, { next: over() })
        assert.deepStrictEqual(yield* recordOf(quiet.id), packed(odd))

        // With messages that it read with its end, and messages that came too late.
        for (const length of [0, 1]) {
          const late = yield* start
          if (length > 0) yield* worker.commit(late, { entries: [entry("a")] })
          yield* desk.send(late.id, "x", "y", "z")
          const unread = unreadOf(yield* worker.commit({ ...late, length }, { next: running }))
          yield* worker.commit({ ...late, length }, { entries: [moved(unread[1]!)], next: over() })
          assert.deepStrictEqual(yield* recordOf(late.id), [
            ...packed(length > 0 ? [entry("a")] : []),
            ...packed([moved(unread[1]!)]),
            ...packed([moved(unread[0]!), moved(unread[2]!)], true)
          ])
          assert.strictEqual(yield* rows("inbox", late.id), 0)
        }
        const ignorant = yield* start
        yield* desk.send(ignorant.id, "x")
        yield* worker.commit(ignorant, { next: over() })
        const [left] = yield* recordOf(ignorant.id)
        assert.deepStrictEqual([left?.key, left?.unread], ["x", true])
      }))

    it.effect("get a message of each execution that they wait for, whatever ends it", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const tasks = yield* makeTaskDesk
        const { s, sql } = yield* database
        const hired = yield* tasks.hire({ lease: Duration.minutes(1) })
        const claim = (overrides?: Parameters<typeof tasks.enqueue>[0]) =>
          Effect.andThen(tasks.enqueue({ priority: 9, ...overrides }), hired.claimOne)
        const ways = {
          succeeded: Effect.map(claim(), (claimed) => [claimed.id, hired.settle(claimed, succeeded())] as const),
          failed: Effect.map(
            claim(),
            (claimed) => [claimed.id, hired.settle(claimed, Outcome.Failed({ result: "{\"no\":1}" }))] as const
          ),
          cancelled: Effect.map(tasks.enqueue(), (id) => [id, desk.broker.cancel(id)] as const),
          expired: Effect.map(
            tasks.enqueue({ startBy: Option.some({ _tag: "After", delay: Duration.zero }) }),
            (id) => [id, hired.tick] as const
          ),
          left: Effect.gen(function*() {
            const leaving = yield* tasks.hire()
            const id = yield* tasks.enqueue({ atMostOnce: true, priority: 9 })
            assert.strictEqual((yield* leaving.claimOne).id, id)
            return [id, leaving.leave] as const
          }),
          reaped: Effect.gen(function*() {
            const lapsing = yield* tasks.hire({ lease: Duration.seconds(5) })
            const id = yield* tasks.enqueue({ atMostOnce: true, priority: 9 })
            assert.strictEqual((yield* lapsing.claimOne).id, id)
            return [id, Effect.andThen(TestPostgres.advance("10 seconds"), hired.tick)] as const
          }),
          "set aside": Effect.gen(function*() {
            const id = yield* tasks.enqueue({ priority: 9 })
            yield* sql`UPDATE ${s}.executions SET fence = 9007199254740991 WHERE id = ${id}`
            return [id, hired.claim(1)] as const
          })
        }
        for (const [what, way] of Object.entries(ways)) {
          const parent = yield* desk.sleeping()
          const [id, end] = yield* way as Effect.Effect<readonly [string, Effect.Effect<unknown>]>
          yield* sql`INSERT INTO ${s}.waiters (execution_id, run) VALUES (${id}, ${parent.id})`
          yield* end
          const { result } = yield* tasks.read(id)
          assert.isTrue(Option.isSome(result), what)
          yield* eventually(`${what} wakes`, Effect.map(desk.stateOf(parent.id), (state) => state === "queued"))
          const [claimed] = yield* parent.worker.claimIds([parent.id])
          assert.deepStrictEqual(
            claimed!.unread.map(({ key, value }) => [key, value]),
            [[`end:${id}`, Option.getOrThrow(result)]],
            what
          )
          assert.lengthOf(yield* sql`SELECT FROM ${s}.waiters WHERE execution_id = ${id}`, 0)
        }
      }))

    it.effect("that are over leave nothing behind but their record", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const { claimed, id, worker } = yield* desk.holding()
        yield* desk.send(id, "a")
        yield* worker.commit(claimed, { entries: [entry("b")] })
        yield* worker.commit({ ...claimed, length: 1 }, { next: over() })
        yield* desk.send(id, "c")
        yield* eventually(
          "the message is gone",
          Effect.map(sql`SELECT FROM ${s}.inbox WHERE run = ${id}`, ({ length }) => length === 0)
        )
        for (const table of ["journal", "wakes"]) {
          assert.lengthOf(yield* sql`SELECT FROM ${s}.${sql.literal(table)} WHERE run = ${id}`, 0)
        }
        assert.lengthOf(yield* sql`SELECT FROM ${s}.runs WHERE id = ${id}`, 1)
      }))

    it.effect("whose record is dropped can be started again", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const { claimed, worker } = yield* desk.holding()
        const kept = yield* desk.start()
        yield* worker.commit(claimed, { next: over() })
        const run = desk.run({ id: claimed.id })
        assert.strictEqual((yield* desk.runs.start(run, { owner: Option.none(), messages: [] }))._tag, "Exists")
        yield* makePast(100)
        yield* sql`UPDATE ${s}.history SET finished_at = now() - interval '100 days' WHERE id = ${run.id}`
        yield* perform("drop past")
        assert.lengthOf(yield* sql`SELECT FROM ${s}.history WHERE id = ${run.id}`, 0)
        assert.strictEqual((yield* desk.runs.start(run, { owner: Option.none(), messages: [] }))._tag, "Stored")
        assert.strictEqual(
          (yield* desk.runs.start(desk.run({ id: kept }), { owner: Option.none(), messages: [] }))._tag,
          "Exists"
        )
      }))

    /** Adds the partition of a day in the past. */
    const makePast = Effect.fnUntraced(function*(days: number) {
      const { sql } = yield* database
      const { name } = yield* TestPostgres.TestSchema
      const day = new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10)
      const next = new Date(Date.parse(day) + 86_400_000).toISOString().slice(0, 10)
      yield* sql.unsafe(
        `CREATE TABLE "${name}".history_default_${day.replaceAll("-", "")} PARTITION OF "${name}".history_default
         FOR VALUES FROM ('${day} 00:00:00+00') TO ('${next} 00:00:00+00')`
      ).unprepared
    })

    it.effect("that are never started lose their messages after a week", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const run = desk.run()
        const known = yield* desk.start()
        yield* desk.send(run.id, "a")
        yield* desk.send(known, "a")
        yield* eventually("they are looked at", Effect.map(sql`SELECT FROM ${s}.wakes`, ({ length }) => length === 0))
        const count = (id: string) => Effect.map(sql`SELECT FROM ${s}.inbox WHERE run = ${id}`, ({ length }) => length)
        yield* perform("forget messages")
        assert.deepStrictEqual([yield* count(run.id), yield* count(known)], [1, 1])
        yield* TestPostgres.advance("8 days")
        yield* desk.send(run.id, "b")
        yield* perform("forget messages")
        assert.deepStrictEqual([yield* count(run.id), yield* count(known)], [1, 1])
        const [left] = yield* sql<{ readonly key: string }>`SELECT key::text FROM ${s}.inbox WHERE run = ${run.id}`
        assert.strictEqual(left!.key, "b")
      }))

    it.effect("whose rows were changed by hand keep no other from being claimed", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const [worn, good] = [yield* desk.start(), yield* desk.start()]
        yield* sql`UPDATE ${s}.executions SET fence = 9007199254740991 WHERE id = ${worn}`
        const orphan = yield* desk.holding()
        yield* sql`UPDATE ${s}.executions SET owner = ${uuid()} WHERE id = ${orphan.id}`
        const worker = yield* desk.hire()
        assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [good])
        const record = yield* desk.read(worn)
        assert.deepStrictEqual([record.state, record.held], ["waiting", Option.some("its row cannot be read")])
        yield* perform("reap orphans")
        const again = yield* worker.claimOne
        assert.strictEqual(again.id, orphan.id)

        // Messages, journals and wakes of nothing.
        yield* sql`INSERT INTO ${s}.wakes SELECT gen_random_uuid() FROM generate_series(1, 10)`
        yield* sql`INSERT INTO ${s}.journal (run, seq, at, outside, key, value) VALUES (${uuid()}, 0, now(), true, 'a', 'b')`
        yield* sql`INSERT INTO ${s}.waiters (execution_id, run) VALUES (${again.id}, ${uuid()})`
        assert.deepStrictEqual(yield* worker.commit(again, { next: over() }), done("over"))
        yield* perform("wake")
        assert.lengthOf(yield* sql`SELECT FROM ${s}.wakes`, 0)
      }))

    it.effect("whose claim was undone by a crash are claimed under the same fence, and one of the two records it", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const { claimed, id, worker } = yield* desk.holding()
        yield* sql`
          UPDATE ${s}.executions SET state = 'queued', owner = NULL, claimed_at = NULL, home = NULL, fence = fence - 1
          WHERE id = ${id}
        `
        const other = yield* desk.hire()
        const again = yield* other.claimOne
        assert.deepStrictEqual([again.id, again.fence], [id, claimed.fence])
        assert.deepStrictEqual(yield* worker.commit(claimed, { entries: [entry("a")] }), { _tag: "Lost" })
        assert.deepStrictEqual(yield* other.commit(again, { entries: [entry("b")], next: waiting() }), done("waiting"))
        assert.deepStrictEqual(yield* worker.commit(claimed, { entries: [entry("a")] }), { _tag: "Lost" })
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), [inJournal(entry("b"))])
      }))

    it.effect("need a partition of history for their end, which is made", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const { claimed, worker } = yield* desk.holding()
        const today = new Date().toISOString().slice(0, 10).replaceAll("-", "")
        yield* sql`DROP TABLE ${s}.${sql.literal(`history_default_${today}`)}`
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), done("over"))
      }))

    it.effect("one of which Postgres cannot record delay no other of their batch", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { sql } = yield* database
        const { name } = yield* TestPostgres.TestSchema
        yield* Effect.forEach(Array.from({ length: 20 }), () => desk.start(), { concurrency: "unbounded" })
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(20)
        yield* sql.unsafe(
          `ALTER TABLE "${name}".journal ADD CONSTRAINT not_this CHECK (key <> 'bad') NOT VALID`
        ).unprepared
        const results = yield* Effect.forEach(
          claimed,
          (run, n) => Effect.result(worker.commit(run, { entries: [entry(n === 5 ? "bad" : "a")], next: waiting() })),
          { concurrency: "unbounded" }
        )
        yield* sql.unsafe(`ALTER TABLE "${name}".journal DROP CONSTRAINT not_this`).unprepared
        for (const [n, result] of results.entries()) {
          if (n !== 5) assert.deepStrictEqual(result._tag === "Success" ? result.success : result, done("waiting"))
        }
        const bad = results[5]!
        assert(bad._tag === "Failure")
        assert.strictEqual(bad.failure.reason._tag, "BadData")
        assert.strictEqual(yield* desk.stateOf(claimed[5]!.id), "running")
      }))

    it.effect("of a worker that has lapsed long ago are due at once when they are woken", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const ahead = (id: string) =>
          Effect.map(
            sql<{ readonly millis: number }>`
              SELECT (date_part('epoch', e.run_at) - date_part('epoch', i.at)) * 1000 AS millis
              FROM ${s}.executions e JOIN ${s}.inbox i ON i.run = e.id WHERE e.id = ${id}
            `,
            ([row]) => row!.millis
          )
        const [near, far] = [yield* desk.sleeping(), yield* desk.sleeping()]
        yield* far.worker.leave
        for (const { id } of [near, far]) {
          yield* desk.send(id, "a")
          yield* desk.becomes(id, "queued")
        }
        assert.isAtLeast(yield* ahead(near.id), 20)
        const [row] = yield* sql`SELECT FROM ${s}.supervisors WHERE id = ${far.worker.id}`
        assert.isUndefined(row)
        yield* TestPostgres.advance(pastLease)
        assert.isTrue(Option.isSome(yield* desk.broker.read(far.id)))
      }))
  })

  const alone = TestPostgres.database(version)
  layer(alone, { excludeTestServices: true })(`Services of runs on Postgres ${version}`, (it) => {
    it.effect("can be made one by one, and over a store that others share", () =>
      Effect.gen(function*() {
        const { name: schema } = yield* TestPostgres.TestSchema
        const client = Layer.succeed(PgClient.PgClient, yield* PgClient.PgClient)
        const shared = PgStore.layer({ schema })
        const all = [
          Layer.merge(PgRunStore.layer({ schema }), PgBroker.layer({ schema })),
          Layer.provide(Layer.merge(PgRunStore.layerShared(), PgBroker.layerShared()), shared),
          Layer.provide(PgRunStore.layerShared(), shared),
          PgRunStore.layer({ schema })
        ]
        for (const services of all) {
          const built = yield* Layer.build(Layer.provide(Layer.fresh(services), client))
          yield* Effect.gen(function*() {
            const desk = yield* makeDesk
            const { id, worker } = yield* desk.sleeping()
            yield* desk.send(id, "a")
            yield* desk.becomes(id, "queued")
            const claimed = yield* worker.claimOne
            assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), done("over"))
            assert.strictEqual(yield* desk.stateOf(id), "succeeded")
          }).pipe(
            Effect.provideService(Broker, Context.get(built, Broker)),
            Effect.provideService(RunStore, Context.get(built, RunStore))
          )
        }
      }))
  })
}

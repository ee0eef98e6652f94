/** How Postgres carries the statements out: what a claim reads must not depend on what it does not take. */
import { Broker } from "@effect-ray/core/Broker"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { done, entry, makeDesk, moved, over, waiting } from "../../core/test/runStoreSuite/kit.ts"
import { laneId } from "../src/internal/lanes.ts"
import { arrays } from "../src/internal/store.ts"
import { database, execution, hire, makeLane } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** Rows read by sequential scans of the hot table, and entries read from its claim index. */
const read = Effect.gen(function*() {
  const { sql } = yield* database
  const { name } = yield* TestPostgres.TestSchema
  yield* sql`SELECT pg_stat_force_next_flush()`
  const rows = yield* sql<{ readonly scanned: number; readonly entries: number }>`
    SELECT t.seq_tup_read::float8 AS scanned, i.idx_tup_read::float8 AS entries
    FROM pg_stat_user_tables t JOIN pg_stat_user_indexes i USING (relid)
    WHERE t.schemaname = ${name} AND t.relname = 'executions' AND i.indexrelname = 'executions_to_claim'
  `
  return rows[0]!
})

/** What one effect reads. */
const reads = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const before = yield* read
    const answer = yield* effect
    const after = yield* read
    return { answer, scanned: after.scanned - before.scanned, entries: after.entries - before.entries }
  })

/** Holds a snapshot, on a connection and a fiber of its own, until the test ends. */
const openSnapshot = Effect.gen(function*() {
  const { s } = yield* database
  const held = yield* Deferred.make<void>()
  const other = yield* Layer.build(Layer.fresh(TestPostgres.client({ maxConnections: 1 })))
  const sql = Context.get(other, PgClient.PgClient)
  const hold = Effect.gen(function*() {
    yield* sql`SET TRANSACTION ISOLATION LEVEL REPEATABLE READ`
    yield* sql`SELECT FROM ${s}.executions LIMIT 1`
    yield* Deferred.succeed(held, undefined)
    return yield* Effect.never
  })
  yield* Effect.forkScoped(sql.withTransaction(hold))
  yield* Deferred.await(held)
})

for (const version of TestPostgres.versions) {
  // Statistics are a session's own until it gives them away: the broker's do after each statement that asks for the time.
  const givenAway = Layer.effectDiscard(Effect.gen(function*() {
    const { s, sql } = yield* database
    yield* sql`
      CREATE OR REPLACE FUNCTION ${s}.clock() RETURNS timestamptz LANGUAGE sql VOLATILE
      AS 'SELECT pg_stat_force_next_flush(); SELECT clock_timestamp()'
    `
  }))
  const suite = TestPostgres.broker({ notify: false }).pipe(
    Layer.provideMerge(givenAway),
    Layer.provideMerge(TestPostgres.database(version, { maxConnections: 1 }))
  )
  layer(suite, { excludeTestServices: true })(`Claims on Postgres ${version}`, (it) => {
    it.effect("read what they take, not the backlog of other lanes, of the future, or of lower priority", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const worker = yield* hire(broker, [lane])
        const claimAndSettle = Effect.tap(worker.claim(5), (claimed) => worker.succeed(claimed))

        // Plans made while the table is empty, and known to be, are the ones that are kept.
        yield* sql`VACUUM ANALYZE ${s}.executions`
        yield* Effect.repeat(Effect.andThen(broker.enqueue([execution(lane)]), claimAndSettle), { times: 10 })
        yield* sql`VACUUM ANALYZE ${s}.executions`

        const many = (overrides: Parameters<typeof execution>[0]) =>
          broker.enqueue(Array.from({ length: 10_000 }, () => execution(overrides)))
        yield* many(makeLane())
        yield* many({ ...lane, priority: 9, due: { _tag: "After", delay: Duration.hours(1) } })
        yield* many({ ...lane, priority: 1 })
        yield* broker.enqueue(Array.from({ length: 10 }, () => execution(lane)))

        for (let rounds = 0; rounds < 2; rounds++) {
          const { answer, entries, scanned } = yield* reads(claimAndSettle)
          assert.strictEqual(answer.length, 5)
          assert.isTrue(answer.every(({ waitedMillis }) => waitedMillis >= 0))
          assert.strictEqual(scanned, 0)
          assert.isAtMost(entries, 50)
        }
        const tick = yield* reads(worker.tick)
        assert.strictEqual(tick.scanned, 0)
        assert.isAtMost(tick.entries, 50)
        const found = yield* reads(broker.read(execution().id))
        assert.strictEqual(found.scanned, 0)
      }))

    it.effect("begin behind what was taken, though an old snapshot keeps it in the index", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const lane = makeLane()
        const worker = yield* hire(broker, [lane])
        yield* openSnapshot
        yield* broker.enqueue(Array.from({ length: 6_000 }, () => execution(lane)))
        // Floors stay a second behind the clock.
        yield* Effect.sleep("1100 millis")
        const read: Array<number> = []
        for (let claims = 0; claims < 12; claims++) {
          const { answer, entries } = yield* reads(Effect.tap(worker.claim(500), (claimed) => worker.succeed(claimed)))
          assert.strictEqual(answer.length, 500)
          read.push(entries)
        }
        // Every other second a claim looks at everything; nearly all read what they take, twice, and little more.
        const usual = read.sort((a, b) => a - b)[Math.floor(read.length / 2)]!
        assert.isAtMost(usual, 1_500)
        assert.isAbove(usual, 0)

        // And what is empty is not read again and again.
        yield* worker.claim()
        yield* Effect.sleep("1100 millis")
        yield* worker.claim()
        let least = Infinity
        for (let claims = 0; claims < 5; claims++) least = Math.min(least, (yield* reads(worker.claim())).entries)
        assert.strictEqual(least, 0)
      }))
  })

  const runs = TestPostgres.runStore().pipe(
    Layer.provideMerge(givenAway),
    Layer.provideMerge(TestPostgres.database(version, { maxConnections: 1 }))
  )
  layer(runs, { excludeTestServices: true })(`Runs on Postgres ${version}`, (it) => {
    it.effect("are claimed, committed and woken beside very many that wait, which none of it reads", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { s, sql } = yield* database
        const { name } = yield* TestPostgres.TestSchema
        const worker = yield* desk.hire()
        const one = Effect.gen(function*() {
          const claimed = yield* worker.claimOne
          const child = { run: desk.run(), detached: false }
          yield* worker.commit(claimed, { entries: [entry("a")], children: [child], next: waiting() })
          const [own] = yield* worker.claimIds([child.run.id])
          yield* worker.commit(own!, { entries: [entry("b")], next: over() })
          yield* desk.becomes(claimed.id, "queued")
          const [again] = yield* worker.claimIds([claimed.id])
          yield* desk.runs.load(claimed.id, 0)
          const step = { entries: again!.unread.map(moved), next: over() }
          assert.deepStrictEqual(yield* worker.commit(again!, step), done("over"))
          yield* worker.tick
        })
        // Plans made while the tables are empty are the ones that are kept.
        for (let n = 0; n < 8; n++) yield* Effect.andThen(desk.start(), one)

        const { lane } = desk
        const read = Effect.gen(function*() {
          yield* sql`SELECT pg_stat_force_next_flush()`
          const rows = yield* sql<{ readonly table: string; readonly rows: number }>`
            SELECT t.relname AS table, t.seq_tup_read::float8 + coalesce((
              SELECT sum(i.idx_tup_read)::float8 FROM pg_stat_user_indexes i WHERE i.relid = t.relid
            ), 0) AS rows
            FROM pg_stat_user_tables t
            WHERE t.schemaname = ${name} AND t.relname IN ('executions', 'journal', 'inbox', 'runs', 'waiters')
          `
          return new Map(rows.map(({ rows, table }) => [table, rows]))
        })
        /** What five turns read of each table. */
        const turns = Effect.gen(function*() {
          const before = yield* read
          for (let n = 0; n < 5; n++) yield* Effect.andThen(desk.start(), one)
          const after = yield* read
          return [...after].map(([table, rows]) => [table, rows - before.get(table)!] as const)
        })
        const few = yield* turns

        yield* sql`
          INSERT INTO ${s}.executions (
            id, lane, task, queue, priority, payload, format, enqueued_at, run_at, max_attempts, timeout_millis,
            at_most_once, kind, state, held
          )
          SELECT gen_random_uuid(), ${laneId(lane)}, ${lane.task}, ${lane.queue}, 5, '{}', 1, now(),
            now() + interval '1 hour' + n * interval '1 second', 1, 1, false, 'workflow', 'waiting',
            CASE WHEN n % 10 = 0 THEN 'held' END
          FROM generate_series(1, 100000) AS n
        `
        yield* sql`INSERT INTO ${s}.runs SELECT e.id FROM ${s}.executions e ON CONFLICT DO NOTHING`
        yield* sql`INSERT INTO ${s}.journal (run, seq, at, outside, key, value) SELECT e.id, 0, now(), true, 'a', 'b' FROM ${s}.executions e LIMIT 50000`
        yield* sql`
          INSERT INTO ${s}.inbox (run, at, key, value)
          SELECT gen_random_uuid(), now(), 'a', 'b' FROM generate_series(1, 50000)
        `
        yield* sql`
          INSERT INTO ${s}.waiters (execution_id, run)
          SELECT e.id, gen_random_uuid() FROM ${s}.executions e LIMIT 50000
        `
        const many = new Map(yield* turns)
        for (const [table, rows] of few) assert.isAtMost(many.get(table)!, rows + 200, table)

        // As many index entries as runs, once to find them and once to lock them.
        const due = yield* Effect.forEach(Array.from({ length: 40 }), () => desk.start(), { concurrency: "unbounded" })
        yield* sql`
          UPDATE ${s}.executions SET state = 'waiting', run_at = now() - interval '1 minute'
          WHERE id = ANY (${arrays.uuid(due.slice(0, 20))})
        `
        yield* sql`VACUUM (INDEX_CLEANUP ON) ${s}.executions`
        const entries = Effect.gen(function*() {
          yield* sql`SELECT pg_stat_force_next_flush()`
          const [row] = yield* sql<{ readonly entries: number }>`
            SELECT sum(i.idx_tup_read)::float8 AS entries FROM pg_stat_user_indexes i
            WHERE i.schemaname = ${name} AND i.indexrelname IN ('executions_to_claim', 'executions_to_wake')
          `
          return row!.entries
        })
        const before = yield* entries
        assert.lengthOf(yield* worker.claim(40), 40)
        assert.isAtMost((yield* entries) - before, 2 * 40 + 2)
      }))
  })
}

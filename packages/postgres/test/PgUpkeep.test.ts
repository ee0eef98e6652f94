/** The upkeep of the queue: history by days, what is past, and rows and owners that must not stop it. */
import { Broker } from "@effect-ray/core/Broker"
import { PgMigrations } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Crypto from "node:crypto"
import { database, execution, hire, key, makeLane } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** Does a duty to its end. */
const perform = (name: string) =>
  Effect.flatMap(
    Broker,
    ({ duties }) => Effect.repeat(duties.find((duty) => duty.name === name)!.perform, { while: (more) => more })
  )

const stateOf = (id: string) =>
  Effect.flatMap(Broker, (broker) => Effect.map(broker.read(id), (record) => Option.getOrThrow(record).state))

/** The day so many days ago, as partitions are named. */
const dayAgo = (days: number): string => new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10)

/** The leaves of history, with what they hold. */
const leaves = Effect.gen(function*() {
  const { sql } = yield* database
  const { name } = yield* TestPostgres.TestSchema
  return yield* sql<{ readonly leaf: string; readonly bounds: string }>`
    SELECT c.relname AS leaf, pg_get_expr(c.relpartbound, c.oid) AS bounds
    FROM pg_partition_tree(${`${name}.history`}) t JOIN pg_class c ON c.oid = t.relid
    WHERE t.isleaf ORDER BY c.relname
  `
})

/** A partition of a day that is over. */
const makeLeaf = Effect.fnUntraced(function*(days: number) {
  const { name } = yield* TestPostgres.TestSchema
  const sql = yield* PgClient.PgClient
  const leaf = `history_default_${dayAgo(days).replaceAll("-", "")}`
  yield* sql.unsafe(`
    CREATE TABLE "${name}".${leaf} PARTITION OF "${name}".history_default
    FOR VALUES FROM ('${dayAgo(days)} 00:00:00+00') TO ('${dayAgo(days - 1)} 00:00:00+00')
  `).unprepared
  return leaf
})

/** Moves what is over to a day that is past. */
const age = Effect.fnUntraced(function*(ids: ReadonlyArray<string>, days: number) {
  const { s, sql } = yield* database
  yield* sql`
    UPDATE ${s}.history SET finished_at = ${`${dayAgo(days)} 12:00:00+00`}::timestamptz WHERE id = ANY (${ids}::uuid[])
  `
})

for (const version of TestPostgres.versions) {
  layer(TestPostgres.layer(version), { excludeTestServices: true })(`The upkeep on Postgres ${version}`, (it) => {
    it.effect("drops history that is past its retention, with the keys and attempts that belong to it", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const old = yield* Effect.forEach(
          ["a", "b", "c"],
          (name) => Effect.succeed(execution({ ...lane, ...key(name) }))
        )
        const young = execution({ ...lane, ...key("d") })
        yield* broker.enqueue([...old, young])
        const worker = yield* hire(broker, [lane])
        // One of them has an attempt before its last.
        const [first] = yield* worker.claim(1)
        yield* broker.unregister(worker.supervisor)
        const again = yield* hire(broker, [lane])
        yield* again.succeed(yield* again.claim())
        assert.isAbove((yield* broker.attempts(first!.id)).length, 1)
        yield* Effect.forEach([40, 31, 29], makeLeaf)
        const [a, b] = old.map(({ id }) => id)
        yield* age([a!], 40)
        yield* age([b!], 31)
        yield* age([old[2]!.id], 29)

        yield* perform("drop past")
        assert.isTrue(Option.isNone(yield* broker.read(a!)))
        assert.isTrue(Option.isNone(yield* broker.read(b!)))
        assert.strictEqual(yield* stateOf(old[2]!.id), "succeeded")
        assert.strictEqual(yield* stateOf(young.id), "succeeded")
        const days = (yield* leaves).map(({ leaf }) => leaf)
        assert.notInclude(days, `history_default_${dayAgo(31).replaceAll("-", "")}`)
        assert.include(days, `history_default_${dayAgo(29).replaceAll("-", "")}`)
        const keys = yield* sql<{ readonly key: string }>`
          SELECT key FROM ${s}.keys WHERE scope = ${lane.task} ORDER BY key
        `
        assert.deepStrictEqual(keys.map(({ key }) => key), ["c", "d"])
        const gone = [a!, b!].includes(first!.id) ? 0 : 1
        assert.lengthOf(yield* sql`SELECT FROM ${s}.attempts WHERE execution_id = ${first!.id}`, gone)
        assert.lengthOf(yield* sql`SELECT FROM ${s}.drops`, 0)
        // A key that named what is gone may be used again.
        const reused = execution({ ...lane, ...key("a") })
        assert.deepStrictEqual(yield* broker.enqueue([reused]), [{ id: reused.id, deduplicated: false }])
        // The second time as the first.
        yield* makeLeaf(33)
        yield* perform("drop past")
        assert.notInclude((yield* leaves).map(({ leaf }) => leaf), `history_default_${dayAgo(33).replaceAll("-", "")}`)
      }))

    it.effect("leaves history alone while a reader is in the way, and drops it when that is gone", () =>
      Effect.gen(function*() {
        const { s, sql } = yield* database
        const leaf = yield* makeLeaf(50)
        yield* sql.withTransaction(Effect.gen(function*() {
          yield* sql`SELECT FROM ${s}.history LIMIT 1`
          yield* perform("drop past")
        }))
        assert.include((yield* leaves).map(({ leaf }) => leaf), leaf)
        yield* perform("drop past")
        assert.notInclude((yield* leaves).map(({ leaf }) => leaf), leaf)
      }))

    it.effect("makes the days of history in UTC, whatever the session's time zone and dates, and whatever classes there are", () =>
      Effect.gen(function*() {
        const { s, sql } = yield* database
        yield* sql`INSERT INTO ${s}.retention_classes (name, keep) VALUES ('by_id', '1 day'), ('unknown', '1 day')`
        for (
          const [zone, style] of [["Asia/Shanghai", "SQL, DMY"], ["<UTC>+4", "German"], ["Asia/Kolkata", "ISO, MDY"]]
        ) {
          for (const { leaf } of (yield* leaves).slice(-2)) yield* sql`DROP TABLE ${s}.${sql.literal(leaf)}`
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* sql`SELECT set_config('timezone', ${zone}, true), set_config('datestyle', ${style}, true)`
            yield* sql`SELECT ${s}.ensure_partitions(9)`
          }))
        }
        yield* sql`SET timezone = 'UTC'`
        for (const { bounds, leaf } of (yield* leaves).filter(({ leaf }) => /default_\d{8}$/.test(leaf))) {
          const day = leaf.replace(/.*(\d{4})(\d\d)(\d\d)$/, "$1-$2-$3")
          assert.include(bounds, `FROM ('${day} 00:00:00+00')`)
        }
        assert.isAtLeast((yield* leaves).length, 10)
        yield* sql`DELETE FROM ${s}.retention_classes WHERE name <> 'default'`
      }).pipe(Effect.provide(Layer.fresh(TestPostgres.client({ maxConnections: 1 })))))

    it.effect("takes back what a dead worker held, though a row of it cannot go on", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const given = Array.from({ length: 4 }, () => execution(lane))
        yield* broker.enqueue(given)
        const dead = yield* hire(broker, [lane])
        assert.lengthOf(yield* dead.claim(), 4)
        const [last, noted, ...innocent] = given.map(({ id }) => id)
        yield* sql`UPDATE ${s}.executions SET fence = 9007199254740991 WHERE id = ${last}`
        yield* sql`
          INSERT INTO ${s}.attempts
            (execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at)
          SELECT id, fence, 1, 'lost', owner, false, false, now(), now() FROM ${s}.executions WHERE id = ${noted}
        `
        yield* sql`UPDATE ${s}.supervisors SET expires_at = '2000-01-01', lease_millis = 0 WHERE id = ${dead.supervisor}`
        yield* perform("reap")
        const living = yield* hire(broker, [lane])
        const claimed = yield* living.claim()
        assert.sameMembers(claimed.map(({ id }) => id), [noted, ...innocent])
        assert.strictEqual(yield* stateOf(last!), "failed")
      }))

    it.effect("takes back in parts what a supervisor held, when it lapses and when it leaves", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const [lapsing, leaving] = [yield* hire(broker, [lane]), yield* hire(broker, [lane])]
        for (const { supervisor } of [lapsing, leaving]) {
          yield* sql`
            INSERT INTO ${s}.executions
              (id, lane, run_at, enqueued_at, fence, timeout_millis, priority, max_attempts, format, at_most_once, state,
               queue, task, payload, owner, claimed_at)
            SELECT gen_random_uuid(), 1, now(), now(), 1, 60000, 5, 3, 1, false, 'running',
              ${lane.queue}, ${lane.task}, repeat('x', 100000), ${supervisor}, now()
            FROM generate_series(1, 1500)
          `
        }
        yield* sql`
          UPDATE ${s}.supervisors SET expires_at = '2000-01-01', lease_millis = 0 WHERE id = ${lapsing.supervisor}
        `
        const reap = broker.duties.find(({ name }) => name === "reap")!.perform
        assert.isTrue(yield* reap, "150 MB are more than one part")
        const held = (owner: string) => sql`SELECT FROM ${s}.executions WHERE owner = ${owner}`
        const left = (yield* held(lapsing.supervisor)).length
        assert.isTrue(left > 0 && left < 1500, `${left} are left`)
        yield* perform("reap")
        yield* broker.unregister(leaving.supervisor)
        for (const { supervisor } of [lapsing, leaving]) {
          assert.lengthOf(yield* held(supervisor), 0)
          assert.lengthOf(yield* sql`SELECT FROM ${s}.supervisors WHERE id = ${supervisor}`, 0)
        }
        yield* sql`DELETE FROM ${s}.executions WHERE task = ${lane.task}`
      }))

    it.effect("expires large executions in parts, and ticks do not wait for it", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const worker = yield* hire(broker, [lane])
        yield* sql`
          INSERT INTO ${s}.executions
            (id, lane, run_at, enqueued_at, timeout_millis, priority, max_attempts, format, at_most_once,
             queue, task, payload, start_by)
          SELECT gen_random_uuid(), 1, now(), now(), 60000, 5, 3, 1, false,
            ${lane.queue}, ${lane.task}, repeat('x', 1000000), now()
          FROM generate_series(1, 150)
        `
        const { perform: expire } = broker.duties.find(({ name }) => name === "expire")!
        const asked = { supervisor: worker.supervisor, lanes: [lane], lease: execution(lane).timeout }
        const tick = broker.tick({ ...asked, duties: ["expire"] })
        assert.deepStrictEqual((yield* tick).dueDuties, ["expire"])
        assert.isTrue(yield* expire)
        assert.isNotEmpty(yield* sql`SELECT FROM ${s}.executions WHERE task = ${lane.task}`)
        yield* perform("expire")
        assert.lengthOf(yield* sql`SELECT FROM ${s}.executions WHERE task = ${lane.task}`, 0)
        assert.lengthOf(yield* sql`SELECT FROM ${s}.history WHERE task = ${lane.task} AND state = 'expired'`, 150)
      }))

    it.effect("ends an execution that a flood of processes awaits", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const given = execution(lane)
        yield* broker.enqueue([given])
        yield* sql`
          INSERT INTO ${s}.waiters (execution_id, process)
          SELECT ${given.id}::uuid, lpad(to_hex(i), 16, '0') FROM generate_series(1, 450000) i
        `
        const worker = yield* hire(broker, [lane])
        assert.deepStrictEqual(yield* worker.succeed(yield* worker.claim()), ["Settled"])
        assert.strictEqual(yield* stateOf(given.id), "succeeded")
      }))

    it.effect("sets aside a row that a claim cannot take, though older ones of another lane come first", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const [many, one] = [makeLane(), makeLane()]
        yield* broker.enqueue(Array.from({ length: 30 }, () => execution(many)))
        const last = execution(one)
        yield* broker.enqueue([last])
        yield* sql`UPDATE ${s}.executions SET fence = 9007199254740991 WHERE id = ${last.id}`
        const worker = yield* hire(broker, [many, one])
        const claimed = yield* broker.claim({
          supervisor: worker.supervisor,
          lanes: [{ ...many, limit: 3 }, { ...one, limit: 3 }],
          limit: 20
        })
        assert.lengthOf(claimed, 3)
        assert.strictEqual(yield* stateOf(last.id), "failed")
      }))

    it.effect("keeps an end that has no partition to go to, until there is one", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { s, sql } = yield* database
        const lane = makeLane()
        const given = execution(lane)
        yield* broker.enqueue([given])
        const worker = yield* hire(broker, [lane])
        const claimed = yield* worker.claim()
        // As if the days could not be made.
        yield* sql`UPDATE ${s}.retention_classes SET name = 'other' WHERE name = 'default'`
        for (const { leaf } of yield* leaves) yield* sql`DROP TABLE ${s}.${sql.literal(leaf)}`
        const error = yield* Effect.flip(worker.succeed(claimed))
        assert(error._tag === "BrokerError" && error.reason._tag === "Unavailable", String(error))
        assert.include(error.message, "no partition")
        assert.strictEqual(yield* stateOf(given.id), "running")
        yield* sql`UPDATE ${s}.retention_classes SET name = 'default' WHERE name = 'other'`
        assert.deepStrictEqual(yield* worker.succeed(claimed), ["Settled"])
        assert.strictEqual(yield* stateOf(given.id), "succeeded")
      }))
  })

  const empty = TestPostgres.schema.pipe(
    Layer.provideMerge(TestPostgres.client({ maxConnections: 1 })),
    Layer.provideMerge(TestPostgres.server(version))
  )
  layer(empty, { excludeTestServices: true })(`Migrating on Postgres ${version}`, (it) => {
    it.effect("takes no operator or function that another role has put into a schema of the session's", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { name } = yield* TestPostgres.TestSchema
        const trap = `trap_${Crypto.randomBytes(4).toString("hex")}`
        yield* Effect.addFinalizer(() => Effect.ignore(sql.unsafe(`DROP SCHEMA ${trap} CASCADE`)))
        for (
          const statement of [
            `CREATE SCHEMA ${trap}`,
            `CREATE FUNCTION ${trap}.trapped(float8, integer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'`,
            `CREATE OPERATOR ${trap}.>= (FUNCTION = ${trap}.trapped, LEFTARG = float8, RIGHTARG = integer)`,
            `CREATE FUNCTION ${trap}.hashtextextended(text, integer) RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RAISE ''trapped''; END'`,
            `SET search_path = ${trap}, public`
          ]
        ) yield* sql.unsafe(statement).unprepared
        yield* PgMigrations.migrate({ schema: name })
        yield* sql.unsafe("RESET search_path").unprepared
        const trapped = yield* sql`
          SELECT d.refobjid FROM pg_depend d
          JOIN pg_operator o ON o.oid = d.refobjid AND d.refclassid = 'pg_operator'::regclass
          WHERE o.oprnamespace = ${trap}::regnamespace AND d.classid <> 'pg_operator'::regclass
        `
        assert.lengthOf(trapped, 0)
      }))
  })
}

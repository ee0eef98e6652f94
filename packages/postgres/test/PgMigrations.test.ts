/** The schema: made once, by whoever comes first, and refused when it is behind. */
import { Broker, Task } from "@effect-ray/core"
import { PgBroker, PgMigrations } from "@effect-ray/postgres"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { database } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

class Ping extends Task.make("Ping") {}

for (const version of TestPostgres.versions) {
  const empty = TestPostgres.schema.pipe(
    Layer.provideMerge(TestPostgres.client()),
    Layer.provideMerge(TestPostgres.server(version))
  )
  layer(empty, { excludeTestServices: true })(`PgMigrations on Postgres ${version}`, (it) => {
    it.effect("tell what is pending and change nothing, apply it once, and then agree", () =>
      Effect.gen(function*() {
        const { sql } = yield* database
        const options = { schema: (yield* TestPostgres.TestSchema).name }

        const pending = yield* PgMigrations.pending(options)
        assert.deepStrictEqual(pending.map(({ name }) => name), ["0001_initial"])
        const script = Option.getOrThrow(yield* PgMigrations.script(options))
        assert.include(script, `CREATE TABLE "${options.schema}".executions`)
        assert.strictEqual((yield* sql`SELECT FROM pg_namespace WHERE nspname = ${options.schema}`).length, 0)

        const error = yield* Effect.flip(PgMigrations.check(options))
        assert.strictEqual(error._tag, "SchemaBehind")
        assert.include(error.message, "effect-ray migrate")

        // What an application sees, which nobody has refused.
        const broker = yield* PgBroker.make(options)
        const unavailable = yield* Effect.flip(Task.enqueue(Ping).pipe(Effect.provideService(Broker.Broker, broker)))
        assert.match(unavailable.message, /does not exist \(3F000\); run `effect-ray migrate`$/)

        const applied = yield* Effect.all(
          Array.from({ length: 6 }, () => PgMigrations.migrate(options)),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(applied.flat().length, 1)

        yield* PgMigrations.check(options)
        assert.deepStrictEqual(yield* PgMigrations.pending(options), [])
        assert.deepStrictEqual(yield* PgMigrations.migrate(options), [])
      }))

    it.effect("are a script that leaves nothing to do", () =>
      Effect.gen(function*() {
        const { sql } = yield* database
        const options = { schema: (yield* TestPostgres.TestSchema).name }
        yield* sql`DROP SCHEMA IF EXISTS ${sql.literal(options.schema)} CASCADE`
        const script = Option.getOrThrow(yield* PgMigrations.script(options))
        // One statement is all that this protocol takes, so its transaction is the script's.
        const inside = /^BEGIN ISOLATION LEVEL READ COMMITTED;([^]*)COMMIT;$/.exec(script)![1]!
        yield* sql.unsafe(`DO $do$ BEGIN EXECUTE $script$${inside}$script$; END $do$`).unprepared
        yield* PgMigrations.check(options)
        assert.deepStrictEqual(yield* PgMigrations.migrate(options), [])
        assert.isTrue(Option.isNone(yield* PgMigrations.script(options)))
        const broker = yield* PgBroker.make(options)
        const { id } = yield* Task.enqueue(Ping).pipe(Effect.provideService(Broker.Broker, broker))
        assert.isTrue(Option.isSome(yield* broker.read(id)))
      }))

    it.effect("leave a schema that is ahead alone", () =>
      Effect.gen(function*() {
        const { s, sql } = yield* database
        const options = { schema: (yield* TestPostgres.TestSchema).name }
        yield* PgMigrations.migrate(options)
        yield* sql`INSERT INTO ${s}.migrations VALUES (9999, '9999_from_the_future', now())`
        yield* PgMigrations.check(options)
      }))

    it.effect("make partitions days ahead, once, though many ask", () =>
      Effect.gen(function*() {
        const { s, sql } = yield* database
        const options = { schema: (yield* TestPostgres.TestSchema).name }
        yield* PgMigrations.migrate(options)
        const leaves = sql<{ readonly name: string }>`
          SELECT relid::regclass::text AS name
          FROM pg_partition_tree(${`${options.schema}.history`}) WHERE isleaf
        `
        assert.strictEqual((yield* leaves).length, 8)
        yield* Effect.all(Array.from({ length: 5 }, () => sql`SELECT ${s}.ensure_partitions(9)`), {
          concurrency: "unbounded"
        })
        assert.strictEqual((yield* leaves).length, 10)
      }))

    it.effect("refuse a schema name that is not plain", () =>
      Effect.gen(function*() {
        for (const schema of ["a\"b", "A", "1a", "", "a".repeat(41)]) {
          assert.strictEqual((yield* Effect.exit(PgMigrations.migrate({ schema })))._tag, "Failure")
        }
      }))
  })
}

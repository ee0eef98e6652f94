/** The schema: made once, by whoever comes first, and refused when it is behind. */
import { Broker, Task } from "@effect-ray/core"
import { PgBroker, PgMigrations } from "@effect-ray/postgres"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { createHash } from "node:crypto"
import { migrations } from "../src/migrations/all.ts"
import { database } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

const nothing: PgMigrations.Pending = { migrations: [], functions: [] }

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
        assert.deepStrictEqual(pending.migrations, [
          "0001_initial",
          "0002_functions_of_their_own",
          "0003_duties",
          "0004_pauses",
          "0005_given_up",
          "0006_failing",
          "0007_places",
          "0008_runs"
        ])
        assert.includeMembers([...pending.functions], ["claim", "settle", "tick"])
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
        assert.deepStrictEqual(applied.filter(({ migrations }) => migrations.length > 0), [pending])

        yield* PgMigrations.check(options)
        assert.deepStrictEqual(yield* PgMigrations.pending(options), nothing)
        assert.deepStrictEqual(yield* PgMigrations.migrate(options), nothing)
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
        assert.deepStrictEqual(yield* PgMigrations.migrate(options), nothing)
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

    it.effect("replace a function whose text is older, and keep one that a later version has applied", () =>
      Effect.gen(function*() {
        const { s, sql } = yield* database
        const options = { schema: (yield* TestPostgres.TestSchema).name }
        yield* PgMigrations.migrate(options)
        yield* sql`DROP FUNCTION ${s}.cancelling`
        yield* sql`DELETE FROM ${s}.functions WHERE name = 'cancelling'`
        yield* sql`UPDATE ${s}.functions SET hash = 'of an earlier text', version = '0.0.0-beta.9' WHERE name = 'claim'`
        yield* sql`UPDATE ${s}.functions SET hash = 'of a later text', version = '9.10.0' WHERE name = 'settle'`
        yield* sql`INSERT INTO ${s}.functions VALUES ('claim_2', 'of a later version', '9.10.0')`
        const error = yield* Effect.flip(PgMigrations.check(options))
        assert(error._tag === "SchemaBehind")
        assert.deepStrictEqual(error.pending, ["cancelling", "claim"])
        const replaced = { migrations: [], functions: ["cancelling", "claim"] }
        assert.deepStrictEqual(yield* PgMigrations.migrate(options), replaced)
        yield* PgMigrations.check(options)
        const rights = yield* sql<{ readonly name: string }>`
          SELECT p.proname AS name FROM pg_proc p
          WHERE p.pronamespace = ${options.schema}::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE')
        `
        assert.deepStrictEqual(rights, [])
        const broker = yield* PgBroker.make(options)
        const { id } = yield* Task.enqueue(Ping).pipe(Effect.provideService(Broker.Broker, broker))
        assert.strictEqual(yield* broker.cancel(id), "Cancelled")
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

describe("PgMigrations", () => {
  // What has been applied somewhere is never changed: a later migration changes the result.
  for (
    const [name, hash] of [
      ["0001_initial", "b61b683bc445a37b"],
      ["0002_functions_of_their_own", "52cd66cf1a067e09"],
      ["0003_duties", "f8ec184f2f1514ba"],
      ["0004_pauses", "92ed65cbf194814d"],
      ["0005_given_up", "d268c23371ed4a95"],
      ["0006_failing", "62c9b849eebdbdcb"],
      ["0007_places", "3b04559b03ef025d"],
      ["0008_runs", "405e62c0d6e29133"]
    ] as const
  ) {
    it(`${name} has the text that it always had`, () => {
      const { statements } = migrations.find((migration) => migration.name === name)!
      assert.strictEqual(createHash("sha256").update(statements("s").join(";")).digest("hex").slice(0, 16), hash)
    })
  }
})

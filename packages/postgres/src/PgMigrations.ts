/**
 * The schema of the Postgres broker: what is pending, applying it, and refusing to work on one that is behind.
 *
 * Migrations are append-only. All that is pending is applied in one transaction, under a lock that makes other
 * processes wait and then find nothing to do; a worker of the previous version goes on beside it. The table of what was
 * applied lies in the schema itself and is shared with nobody.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { SqlError } from "effect/sql/SqlError"
import { defaultSchema, quote } from "./internal/schemaName.ts"
import { wordsOf } from "./internal/sqlFailure.ts"
import * as Initial from "./migrations/0001_initial.ts"

/**
 * Which schema the migrations are for.
 *
 * @category models
 */
export interface Options {
  /** Default: `effect_ray`. */
  readonly schema?: string | undefined
}

/**
 * One migration, with the SQL it runs.
 *
 * @category models
 */
export interface Migration {
  readonly id: number
  readonly name: string
  readonly statements: ReadonlyArray<string>
}

/**
 * Postgres refused; `detail` carries its words.
 *
 * @category errors
 */
export class MigrationFailed extends Schema.TaggedError<MigrationFailed>("@effect-ray/postgres/MigrationFailed")(
  "MigrationFailed",
  { detail: Schema.String }
) {
  override get message() {
    return `the schema could not be migrated: ${this.detail}`
  }
}

/**
 * The schema lacks migrations that this version needs.
 *
 * @category errors
 */
export class SchemaBehind extends Schema.TaggedError<SchemaBehind>("@effect-ray/postgres/SchemaBehind")(
  "SchemaBehind",
  { schema: Schema.String, pending: Schema.Array(Schema.String) }
) {
  override get message() {
    return `the schema ${this.schema} lacks ${this.pending.join(", ")}; run \`effect-ray migrate\``
  }
}

/** Every migration of this version, oldest first. */
const all = (schema: string): ReadonlyArray<Migration> => [
  { id: 1, name: "0001_initial", statements: Initial.statements(quote(schema)) }
]

const failed = (error: SqlError) => new MigrationFailed({ detail: wordsOf(error) })

/** The ids of what was applied; none when there is no table of it yet. */
const applied = Effect.fnUntraced(function*(sql: PgClient.PgClient, schema: string) {
  const found = yield* sql<{ readonly found: boolean }>`
    SELECT to_regclass(${`${quote(schema)}.migrations`}) IS NOT NULL AS found
  `
  if (!found[0]!.found) return Option.none<ReadonlySet<number>>()
  const rows = yield* sql<{ readonly id: number }>`SELECT id FROM ${sql.literal(quote(schema))}.migrations`
  return Option.some<ReadonlySet<number>>(new Set(rows.map((row) => row.id)))
})

const without = (schema: string, ids: Option.Option<ReadonlySet<number>>): ReadonlyArray<Migration> =>
  all(schema).filter(({ id }) => Option.isNone(ids) || !ids.value.has(id))

/**
 * What `migrate` would run. Changes nothing.
 *
 * @category migrating
 */
export const pending: (
  options?: Options
) => Effect.Effect<ReadonlyArray<Migration>, MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.pending")(
  function*(options: Options = {}) {
    const client = yield* PgClient.PgClient
    const schema = options.schema ?? defaultSchema
    return without(schema, yield* applied(client.withoutTransforms(), schema))
  },
  Effect.catchTag("SqlError", (error) => Effect.fail(failed(error)))
)

/**
 * Applies all that is pending, and answers what that was. Safe to run from many processes at once.
 *
 * @category migrating
 */
export const migrate: (
  options?: Options
) => Effect.Effect<ReadonlyArray<Migration>, MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.migrate")(
  function*(options: Options = {}) {
    const schema = options.schema ?? defaultSchema
    const client = yield* PgClient.PgClient
    const sql = client.withoutTransforms()
    const s = sql.literal(quote(schema))
    return yield* sql.withTransaction(Effect.gen(function*() {
      yield* sql`SELECT pg_advisory_xact_lock(hashtextextended(${`effect-ray migrate ${schema}`}, 0))`
      const ids = yield* applied(sql, schema)
      const migrations = without(schema, ids)
      // Asked first: IF NOT EXISTS wants the right to create even where there is nothing to create.
      const found = yield* sql`SELECT 1 FROM pg_namespace WHERE nspname = ${schema}`
      if (found.length === 0) yield* sql`CREATE SCHEMA ${s}`
      if (Option.isNone(ids)) {
        yield* sql`
          CREATE TABLE ${s}.migrations (id integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)
        `
      }
      for (const { id, name, statements } of migrations) {
        for (const statement of statements) yield* sql.unsafe(statement).unprepared
        yield* sql`INSERT INTO ${s}.migrations (id, name, applied_at) VALUES (${id}, ${name}, clock_timestamp())`
      }
      return migrations
    }))
  },
  Effect.catchTag("SqlError", (error) => Effect.fail(failed(error)))
)

/**
 * Fails with `SchemaBehind` when something is pending. A schema that is ahead is fine: a newer version runs beside.
 *
 * @category migrating
 */
export const check: (
  options?: Options
) => Effect.Effect<void, SchemaBehind | MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.check")(
  function*(options: Options = {}) {
    const migrations = yield* pending(options)
    if (migrations.length === 0) return
    return yield* new SchemaBehind({
      schema: options.schema ?? defaultSchema,
      pending: migrations.map((migration) => migration.name)
    })
  }
)

/**
 * Migrates when it is built, for development and tests.
 *
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<never, MigrationFailed, PgClient.PgClient> =>
  Layer.effectDiscard(migrate(options))

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
import { BeginTransaction } from "effect/sql/SqlClient"
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
 * One step from one state of the schema to the next.
 *
 * @category models
 */
export interface Migration {
  readonly id: number
  readonly name: string
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
const all: ReadonlyArray<Migration & { readonly statements: (schema: string) => ReadonlyArray<string> }> = [
  { id: 1, name: "0001_initial", statements: Initial.statements }
]

const failed = (error: SqlError) => new MigrationFailed({ detail: wordsOf(error) })

interface Plan {
  readonly migrations: ReadonlyArray<Migration>
  /** All that has to run, in order. */
  readonly statements: ReadonlyArray<string>
}

/** What is to be done, as things stand. */
const makePlan = Effect.fnUntraced(function*(sql: PgClient.PgClient, schema: string) {
  const s = quote(schema)
  const [found] = yield* sql<{ readonly schema: boolean; readonly table: boolean }>`
    SELECT to_regnamespace(${s}) IS NOT NULL AS schema, to_regclass(${`${s}.migrations`}) IS NOT NULL AS table
  `
  const rows = found!.table ? yield* sql<{ readonly id: number }>`SELECT id FROM ${sql.literal(s)}.migrations` : []
  const applied = new Set(rows.map(({ id }) => id))
  const migrations = all.filter(({ id }) => !applied.has(id))
  const plan: Plan = {
    migrations,
    statements: [
      // IF NOT EXISTS wants the right to create even where there is nothing to create.
      ...(found!.schema ? [] : [`CREATE SCHEMA ${s}`]),
      ...(found!.table ? [] : [
        `CREATE TABLE ${s}.migrations (id integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)`
      ]),
      ...migrations.flatMap(({ id, name, statements }) => [
        ...statements(s),
        `INSERT INTO ${s}.migrations (id, name, applied_at) VALUES (${id}, '${name}', clock_timestamp())`
      ])
    ]
  }
  return plan
})

/** Held by whoever migrates, until the transaction ends. The name of a schema is plain, see `quote`. */
const lock = (schema: string): string =>
  `SELECT pg_advisory_xact_lock(hashtextextended('effect-ray migrate ${schema}', 0))`

/**
 * What `migrate` would apply. Changes nothing.
 *
 * @category migrating
 */
export const pending: (
  options?: Options
) => Effect.Effect<ReadonlyArray<Migration>, MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.pending")(
  function*(options: Options = {}) {
    const client = yield* PgClient.PgClient
    return (yield* makePlan(client.withoutTransforms(), options.schema ?? defaultSchema)).migrations
  },
  Effect.catchTag("SqlError", (error) => Effect.fail(failed(error)))
)

/**
 * All that `migrate` would run, as one transaction for `psql -v ON_ERROR_STOP=1`; none when nothing is pending.
 *
 * @category migrating
 */
export const script: (
  options?: Options
) => Effect.Effect<Option.Option<string>, MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.script")(
  function*(options: Options = {}) {
    const client = yield* PgClient.PgClient
    const schema = options.schema ?? defaultSchema
    const { migrations, statements } = yield* makePlan(client.withoutTransforms(), schema)
    if (migrations.length === 0) return Option.none()
    return Option.some(
      ["BEGIN ISOLATION LEVEL READ COMMITTED", lock(schema), ...statements, "COMMIT"].map((statement) =>
        `${statement.trim()};`
      ).join("\n\n")
    )
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
    return yield* sql.withTransaction(Effect.gen(function*() {
      yield* sql.unsafe(lock(schema)).unprepared
      const { migrations, statements } = yield* makePlan(sql, schema)
      for (const statement of statements) yield* sql.unsafe(statement).unprepared
      return migrations
    })).pipe(
      // Whoever waited for the lock sees what its holder has done.
      Effect.provideService(BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED")
    )
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

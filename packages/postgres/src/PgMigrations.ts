/**
 * The schema of the Postgres broker: finds what is pending, applies it, and refuses to work on a schema that is behind.
 *
 * Migrations make tables and are append-only. Functions are applied after them, in their current form. Everything that
 * is pending is applied in one transaction, under a lock that makes other processes wait and then find nothing to do.
 * Workers of the previous version continue beside it. What was applied is recorded in tables of the schema itself.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { BeginTransaction } from "effect/sql/SqlClient"
import type { SqlError } from "effect/sql/SqlError"
import * as Functions from "./internal/functions.ts"
import { defaultSchema, quote } from "./internal/schemaName.ts"
import { wordsOf } from "./internal/sqlFailure.ts"
import { migrations } from "./migrations/all.ts"

/**
 * The schema to migrate.
 *
 * @category models
 */
export interface Options {
  /** The schema's name. Default: `effect_ray`. */
  readonly schema?: string | undefined
}

/**
 * What a schema lacks.
 *
 * @category models
 */
export interface Pending {
  /** Names of migrations, oldest first. */
  readonly migrations: ReadonlyArray<string>
  /** Names of functions that are missing or have an older text. */
  readonly functions: ReadonlyArray<string>
}

/**
 * Postgres refused the migration; `detail` has its message.
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
 * The schema lacks migrations or functions that this version needs.
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

const failed = (error: SqlError) => new MigrationFailed({ detail: wordsOf(error) })

/** How many days of history have partitions from the start. Workers add later days. */
const daysAhead = 7

interface Plan extends Pending {
  /** Everything to run, in order. */
  readonly statements: ReadonlyArray<string>
}

const isDone = ({ functions, migrations }: Pending): boolean => migrations.length + functions.length === 0

/** What has to be done to the schema as it is now. */
const makePlan = Effect.fnUntraced(function*(sql: PgClient.PgClient, schema: string) {
  const s = quote(schema)
  const [found] = yield* sql<Record<"schema" | "migrations" | "functions", boolean>>`
    SELECT to_regnamespace(${s}) IS NOT NULL AS schema,
      to_regclass(${`${s}.migrations`}) IS NOT NULL AS migrations,
      to_regclass(${`${s}.functions`}) IS NOT NULL AS functions
  `
  const applied = found!.migrations
    ? yield* sql<{ readonly id: number }>`SELECT id FROM ${sql.literal(s)}.migrations`
    : []
  const ids = new Set(applied.map(({ id }) => id))
  const missing = migrations.filter(({ id }) => !ids.has(id))
  const functions = Functions.pending(
    found!.functions ? yield* sql<Functions.Applied>`SELECT * FROM ${sql.literal(s)}.functions` : []
  )
  const plan: Plan = {
    migrations: missing.map(({ name }) => name),
    functions,
    statements: [
      // These statements resolve names with this path. Otherwise, operators and functions that another role has put
      // into a schema on the session's path would become part of domains and functions that run as the owner.
      "SET LOCAL search_path = pg_catalog, pg_temp",
      // IF NOT EXISTS needs the right to create even if there is nothing to create.
      ...(found!.schema ? [] : [`CREATE SCHEMA ${s}`]),
      ...(found!.migrations ? [] : [
        `CREATE TABLE ${s}.migrations (id integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)`
      ]),
      ...missing.flatMap(({ id, name, statements }) => [
        ...statements(s),
        `INSERT INTO ${s}.migrations (id, name, applied_at) VALUES (${id}, '${name}', clock_timestamp())`
      ]),
      ...Functions.statements(s, functions),
      // Only roles that are granted them may call them: docs/roles.md.
      ...(functions.length === 0 ? [] : [`REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ${s} FROM PUBLIC`]),
      ...(missing.length === 0 ? [] : [`SELECT ${s}.ensure_partitions(${daysAhead})`])
    ]
  }
  return plan
})

/** Held by the process that migrates until its transaction ends. A schema's name is plain, see `quote`. */
const lock = (schema: string): string =>
  `SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('effect-ray migrate ${schema}', 0::bigint))`

/**
 * What `migrate` would apply. Changes nothing.
 *
 * @category migrating
 */
export const pending: (
  options?: Options
) => Effect.Effect<Pending, MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.pending")(
  function*(options: Options = {}) {
    const client = yield* PgClient.PgClient
    const { functions, migrations } = yield* makePlan(client.withoutTransforms(), options.schema ?? defaultSchema)
    return { migrations, functions }
  },
  Effect.catchTag("SqlError", (error) => Effect.fail(failed(error)))
)

/**
 * Everything that `migrate` would run, as one transaction for `psql -v ON_ERROR_STOP=1`; `None` if nothing is pending.
 *
 * @category migrating
 */
export const script: (
  options?: Options
) => Effect.Effect<Option.Option<string>, MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.script")(
  function*(options: Options = {}) {
    const client = yield* PgClient.PgClient
    const schema = options.schema ?? defaultSchema
    const plan = yield* makePlan(client.withoutTransforms(), schema)
    if (isDone(plan)) return Option.none()
    return Option.some(
      ["BEGIN ISOLATION LEVEL READ COMMITTED", lock(schema), ...plan.statements, "COMMIT"].map((statement) =>
        `${statement.trim()};`
      ).join("\n\n")
    )
  },
  Effect.catchTag("SqlError", (error) => Effect.fail(failed(error)))
)

/**
 * Applies everything that is pending and returns it. Safe to run from many processes at once.
 *
 * @category migrating
 */
export const migrate: (
  options?: Options
) => Effect.Effect<Pending, MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.migrate")(
  function*(options: Options = {}) {
    const schema = options.schema ?? defaultSchema
    const client = yield* PgClient.PgClient
    const sql = client.withoutTransforms()
    return yield* sql.withTransaction(Effect.gen(function*() {
      yield* sql.unsafe(lock(schema)).unprepared
      const { functions, migrations, statements } = yield* makePlan(sql, schema)
      for (const statement of statements) yield* sql.unsafe(statement).unprepared
      return { migrations, functions }
    })).pipe(
      // After it has waited for the lock, it sees what the previous holder has done.
      Effect.provideService(BeginTransaction, "BEGIN ISOLATION LEVEL READ COMMITTED")
    )
  },
  Effect.catchTag("SqlError", (error) => Effect.fail(failed(error)))
)

/**
 * Fails with `SchemaBehind` if something is pending. A schema that is ahead is fine: a newer version runs beside this
 * one.
 *
 * @category migrating
 */
export const check: (
  options?: Options
) => Effect.Effect<void, SchemaBehind | MigrationFailed, PgClient.PgClient> = Effect.fn("PgMigrations.check")(
  function*(options: Options = {}) {
    const lacking = yield* pending(options)
    if (isDone(lacking)) return
    return yield* new SchemaBehind({
      schema: options.schema ?? defaultSchema,
      pending: [...lacking.migrations, ...lacking.functions]
    })
  }
)

/**
 * Migrates when the layer is built, for development and tests.
 *
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<never, MigrationFailed, PgClient.PgClient> =>
  Layer.effectDiscard(migrate(options))

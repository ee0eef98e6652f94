/**
 * Layers over a real Postgres, each suite in a schema of its own.
 *
 * The durable clock of the schema is replaced by one that reads an offset from a table, so that tests move it.
 */
import { PgBroker, PgMigrations, PgRunStore } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Crypto from "node:crypto"
import { readFile } from "node:fs/promises"
import { inject } from "vitest"
import type {} from "./globalSetup.ts"
import { start, type Version } from "./servers.ts"

export { type Version, versions } from "./servers.ts"

/** How to reach the server, for tests that restart or cut what lies between. */
export class TestServer extends Context.Service<TestServer, { readonly url: Redacted.Redacted<string> }>()(
  "@effect-ray/postgres/test/TestServer"
) {}

/** The schema of this suite. */
export class TestSchema extends Context.Service<TestSchema, { readonly name: string }>()(
  "@effect-ray/postgres/test/TestSchema"
) {}

/** The server of this run; one of our own where none was started for all. */
export const server = (version: Version) =>
  Layer.effect(
    TestServer,
    Effect.suspend(() => {
      const url = inject("postgresServers")?.[version]
      return url === undefined ? start(version) : Effect.succeed({ url: Redacted.make(url) })
    })
  )

/** A client of the server, with a name of its own among the server's sessions. */
export const client = (config?: Partial<PgClient.PgPoolConfig>) =>
  Layer.unwrap(
    Effect.map(TestServer, ({ url }) =>
      PgClient.layer({ url, applicationName: `test ${Crypto.randomBytes(6).toString("hex")}`, ...config }))
  )

/** A schema with a name nobody has, dropped at the end. */
export const schema = Layer.effect(
  TestSchema,
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const name = `test_${Crypto.randomBytes(6).toString("hex")}`
    yield* Effect.addFinalizer(() => Effect.ignore(sql`DROP SCHEMA IF EXISTS ${sql.literal(name)} CASCADE`))
    return { name }
  })
)

/** Makes the schema, and a clock that tests move. */
export const migrated = Layer.effectDiscard(Effect.gen(function*() {
  const { name } = yield* TestSchema
  yield* PgMigrations.migrate({ schema: name })
  yield* installClock
}))

/** Makes the schema as it was when functions still were part of the first migration. */
export const ofFirstMigration = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const { name } = yield* TestSchema
  const file = new URL("fixtures/schema-of-0001.sql", import.meta.url)
  const script = (yield* Effect.promise(() => readFile(file, "utf8"))).replaceAll("{schema}", `"${name}"`)
  // One statement is all that this protocol takes.
  yield* sql.unsafe(`DO $do$ BEGIN EXECUTE $script$${script}$script$; END $do$`).unprepared
})

const installClock = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const s = sql.literal((yield* TestSchema).name)
  yield* sql`CREATE TABLE ${s}.test_clock (shift interval NOT NULL)`
  yield* sql`INSERT INTO ${s}.test_clock VALUES (interval '0')`
  // Whoever may ask for the time may ask for this one.
  yield* sql`GRANT SELECT ON ${s}.test_clock TO PUBLIC`
  yield* sql`
    CREATE OR REPLACE FUNCTION ${s}.now() RETURNS timestamptz LANGUAGE sql STABLE
    AS 'SELECT statement_timestamp() + (SELECT c.shift FROM ${s}.test_clock c)'
  `
  yield* sql`
    CREATE OR REPLACE FUNCTION ${s}.clock() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT clock_timestamp() + (SELECT c.shift FROM ${s}.test_clock c)'
  `
})

/** Moves the durable clock of the suite's schema. */
export const advance = (duration: Duration.Input): Effect.Effect<void, never, PgClient.PgClient | TestSchema> =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const s = sql.literal((yield* TestSchema).name)
    const millis = Duration.toMillis(Duration.fromInputUnsafe(duration))
    yield* sql`UPDATE ${s}.test_clock SET shift = shift + ${millis}::double precision * interval '1 millisecond'`
  }).pipe(Effect.orDie)

/** A broker over the suite's schema and client. */
export const broker = (options?: PgBroker.Options) =>
  Layer.unwrap(Effect.map(TestSchema, ({ name }) => PgBroker.layer({ schema: name, ...options })))

/** A store of runs and a broker over the suite's schema and client. */
export const runStore = (options?: PgBroker.Options) =>
  Layer.unwrap(Effect.map(TestSchema, ({ name }) => PgRunStore.layer({ schema: name, ...options })))

/** A server, a client, a migrated schema. */
export const database = (version: Version, config?: Partial<PgClient.PgPoolConfig>) =>
  migrated.pipe(
    Layer.provideMerge(schema),
    Layer.provideMerge(client(config)),
    Layer.provideMerge(server(version))
  )

/** As `layer`, over a schema that was first made by an earlier build. */
export const layerFromFirstMigration = (version: Version) =>
  Layer.provideMerge(broker(), migrated).pipe(
    Layer.provideMerge(Layer.effectDiscard(ofFirstMigration)),
    Layer.provideMerge(schema),
    Layer.provideMerge(client()),
    Layer.provideMerge(server(version))
  )

/** All that a suite needs. */
export const layer = (version: Version, options?: PgBroker.Options) =>
  Layer.provideMerge(broker(options), database(version))

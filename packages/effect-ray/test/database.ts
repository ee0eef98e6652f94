/** The tests' Postgres, with what tells a program under test where it is. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as TestPostgres from "../../postgres/test/TestPostgres.ts"

/** A broker and its migrated schema, on the newest version there is. */
export const layer = TestPostgres.layer(TestPostgres.versions.at(-1)!)

/** `DATABASE_URL` and `EFFECT_RAY_SCHEMA`. */
export const environment = Effect.gen(function*() {
  const { url } = yield* TestPostgres.TestServer
  const { name } = yield* TestPostgres.TestSchema
  return { DATABASE_URL: Redacted.value(url), EFFECT_RAY_SCHEMA: name }
})

export const drop = (schema: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql`DROP SCHEMA IF EXISTS ${sql(schema)} CASCADE`)

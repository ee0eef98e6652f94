/** A Postgres for one test file: the server at `DATABASE_URL` with a schema of the file's own, or an embedded one. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Redacted } from "effect"
import { EmbeddedPostgres, PgBroker, PgMigrations } from "effect-ray/postgres"
import { randomBytes } from "node:crypto"

const schema = `effect_ray_basics_${randomBytes(6).toString("hex")}`

const url = Effect.suspend(() => {
  const given = process.env["DATABASE_URL"] ?? ""
  return given === ""
    ? Effect.map(EmbeddedPostgres.make(), (server) => server.url)
    : Effect.succeed(Redacted.make(given))
})

const migrated = Layer.effectDiscard(Effect.acquireRelease(
  PgMigrations.migrate({ schema }),
  () => Effect.flatMap(PgClient.PgClient, (sql) => Effect.orDie(sql`DROP SCHEMA ${sql(schema)} CASCADE`))
))

/** The app's client, and a broker over it. */
export const DatabaseLive = PgBroker.layer({ schema }).pipe(
  Layer.provide(migrated),
  Layer.provideMerge(Layer.unwrap(Effect.map(url, (url) => PgClient.layer({ url }))))
)

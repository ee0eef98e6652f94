/** Postgres goes away, and comes back with what it had. */
import { EmbeddedPostgres, PgBroker, PgMigrations } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import type { Broker } from "@effect-ray/core/Broker"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { listenTo } from "../../core/test/brokerSuite/kit.ts"
import { eventually, execution, hire, makeLane } from "./kit.ts"

/** Starts a server on one data folder, again and again. */
const makeServer = Effect.fnUntraced(function*(settings: Readonly<Record<string, string>> = {}) {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-test-"))),
    (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
  )
  yield* Effect.promise(() => Fs.chmod(folder, 0o755))
  return Effect.fnUntraced(function*(port?: number) {
    const scope = yield* Scope.make()
    yield* Effect.addFinalizer((exit) => Scope.close(scope, exit))
    const server = yield* Scope.provide(
      EmbeddedPostgres.make({ dataFolder: Path.join(folder, "data"), port, settings }),
      scope
    )
    return { server, stop: Scope.close(scope, Exit.void) }
  })
})

/** A broker over a client of its own. */
const makeBroker = Effect.fnUntraced(function*(server: EmbeddedPostgres.Server) {
  const client = yield* Layer.build(PgClient.layer({ url: server.url }))
  yield* Effect.provideContext(PgMigrations.migrate(), client)
  return yield* Effect.provideContext(PgBroker.make(), client)
})

/** A supervisor that is hired as soon as Postgres answers. */
const eventuallyHired = (broker: Broker["Service"], lane: ReturnType<typeof makeLane>) =>
  Effect.retry(hire(broker, [lane]), Schedule.spaced("20 millis"))

describe("PgBroker", () => {
  it.live("fails with Unavailable while Postgres is away, and goes on by itself when it is back", () =>
    Effect.gen(function*() {
      const start = yield* makeServer()
      const first = yield* start()
      const broker = yield* makeBroker(first.server)
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

  it.live("undoes a claim in a crash, but never one of an at-most-once execution, which may have run", () =>
    Effect.gen(function*() {
      // The disk is written to only when somebody waits for it.
      const start = yield* makeServer({ wal_writer_delay: "10s" })
      const first = yield* start()
      const broker = yield* makeBroker(first.server)
      const lane = makeLane()
      const [once, often] = [execution({ ...lane, atMostOnce: true }), execution(lane)]
      yield* broker.enqueue([once])
      yield* broker.enqueue([often])
      const worker = yield* hire(broker, [lane])
      assert.deepStrictEqual((yield* worker.claim(1)).map(({ id }) => id), [once.id])
      const undone = yield* worker.claim(1)
      process.kill(first.server.pid, "SIGKILL")
      assert.deepStrictEqual(undone.map(({ id }) => id), [often.id])

      yield* eventually("it is down", Effect.map(Effect.exit(broker.read(once.id)), Exit.isFailure))
      yield* first.stop
      yield* start(first.server.port)
      yield* eventually("it answers again", Effect.map(Effect.exit(worker.tick), Exit.isSuccess))
      const again = yield* worker.claim()
      assert.deepStrictEqual(again.map(({ fence, id }) => ({ id, fence })), [{ id: often.id, fence: undone[0]!.fence }])
      assert.deepStrictEqual(
        (yield* broker.owned(worker.supervisor)).map(({ id }) => id).sort(),
        [once.id, often.id].sort()
      )
    }))

  it.live("begins every lease anew when Postgres was down for longer, and ends it when nobody renews it then", () =>
    Effect.gen(function*() {
      const start = yield* makeServer()
      const first = yield* start()
      const broker = yield* makeBroker(first.server)
      const lane = makeLane()
      yield* broker.enqueue([execution(lane), execution(lane)])
      const lease = Duration.seconds(3)
      const [living, dead] = [yield* hire(broker, [lane], lease), yield* hire(broker, [lane], lease)]
      const mine = yield* living.claim(1)
      const [theirs] = yield* dead.claim(1)

      yield* first.stop
      yield* Effect.sleep(Duration.sum(lease, Duration.millis(100)))
      yield* start(first.server.port)
      const other = yield* eventuallyHired(broker, lane)
      const stateOf = Effect.map(broker.read(theirs!.id), (record) => Option.getOrThrow(record).state)
      yield* other.tick
      assert.strictEqual(yield* stateOf, "running")
      assert.isTrue((yield* living.tick).alive)
      const renewing = yield* Effect.forkChild(Effect.repeat(living.tick, Schedule.spaced("200 millis")))
      yield* eventually(
        "the other lease lapses",
        Effect.map(Effect.andThen(other.tick, stateOf), (state) => state === "queued")
      )
      yield* Fiber.interrupt(renewing)
      assert.deepStrictEqual(yield* living.succeed(mine), ["Settled"])
      assert.deepStrictEqual((yield* other.claim()).map(({ id, losses }) => ({ id, losses })), [
        { id: theirs!.id, losses: 1 }
      ])
    }))
})

/** A standby that is promoted while the old primary stays up and takes no more writes, behind one address. */
import { InProcessRunner, Supervisor, Task, Worker } from "@effect-ray/core"
import { Broker } from "@effect-ray/core/Broker"
import { EmbeddedPostgres, PgBroker, PgMigrations } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { listenTo } from "../../core/test/brokerSuite/kit.ts"
import { eventually, execution, hire, makeLane } from "./kit.ts"

class Double extends Task.make("Double", { payload: { n: Schema.Int }, success: Schema.Int }) {}

/** One address for a server, and then for another: connections that are open stay where they lead. */
const makeAddress = Effect.fnUntraced(function*(port: number) {
  let target = port
  const sockets = new Set<Net.Socket>()
  const server = Net.createServer((client) => {
    const upstream = Net.connect(target, "127.0.0.1")
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on("error", () => socket.destroy())
      socket.on("close", () => {
        client.destroy()
        upstream.destroy()
        sockets.delete(socket)
      })
    }
    client.pipe(upstream)
    upstream.pipe(client)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
  return {
    port: (server.address() as Net.AddressInfo).port,
    leadTo: (port: number) => {
      target = port
    }
  }
})

const folderOf = Effect.acquireRelease(
  Effect.promise(async () => {
    const folder = await Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-test-"))
    await Fs.chmod(folder, 0o755)
    return folder
  }),
  (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
)

const clientOf = (url: Redacted.Redacted<string>, maxConnections: number) =>
  Effect.map(Layer.build(Layer.fresh(PgClient.layer({ url, maxConnections }))), (context) => ({
    context,
    sql: Context.get(context, PgClient.PgClient)
  }))

/** A primary, and a standby that follows it: a copy of its data, made while it was down. */
const makePair = Effect.gen(function*() {
  const folder = yield* folderOf
  const [first, second] = [Path.join(folder, "first"), Path.join(folder, "second")]
  const scope = yield* Scope.make()
  yield* Scope.provide(EmbeddedPostgres.make({ dataFolder: first }), scope)
  yield* Scope.close(scope, Exit.void)
  // As the owner that the server runs as: copied as it is.
  yield* Effect.promise(() => Fs.cp(first, second, { recursive: true, preserveTimestamps: true }))
  yield* Effect.promise(() => chownLike(first, second))
  const primary = yield* EmbeddedPostgres.make({ dataFolder: first })
  yield* Effect.promise(() => Fs.writeFile(Path.join(second, "standby.signal"), ""))
  const standby = yield* EmbeddedPostgres.make({
    dataFolder: second,
    settings: {
      primary_conninfo: `host=127.0.0.1 port=${primary.port} user=postgres password=${Redacted.value(primary.password)}`
    }
  })
  return { primary, standby }
})

/** Gives a copy the owners of what it was copied from. */
const chownLike = async (from: string, to: string): Promise<void> => {
  const { gid, uid } = await Fs.stat(from)
  await Fs.chown(to, uid, gid)
  for (const entry of await Fs.readdir(from, { withFileTypes: true })) {
    const [a, b] = [Path.join(from, entry.name), Path.join(to, entry.name)]
    if (entry.isDirectory()) await chownLike(a, b)
    else if (entry.isFile()) {
      const owner = await Fs.stat(a)
      await Fs.chown(b, owner.uid, owner.gid)
    }
  }
}

describe("A failover", () => {
  it.live("leaves no connection behind: every verb, the app's transactions and the listener go where writes are taken", () =>
    Effect.gen(function*() {
      const { primary, standby } = yield* makePair
      const address = yield* makeAddress(primary.port)
      const at = (port: number) => {
        const url = new URL(Redacted.value(primary.url))
        url.port = String(port)
        return Redacted.make(url.href)
      }
      const app = yield* clientOf(at(address.port), 4)
      yield* Effect.provideContext(PgMigrations.migrate(), app.context)
      const broker = yield* Effect.provideContext(PgBroker.make({ pollInterval: "50 millis" }), app.context)
      const withBroker = Effect.provideService(Broker, broker)

      const worker = Worker.make({ tasks: [Double], handlers: Double.toLayer(({ n }) => Effect.succeed(2 * n)) })
      yield* Supervisor.run({ worker, concurrency: 4 }).pipe(
        withBroker,
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkScoped
      )
      const lane = makeLane()
      const [running, waiting] = [execution(lane), execution(lane)]
      yield* broker.enqueue([running, waiting])
      const hired = yield* hire(broker, [lane])
      const claimed = yield* hired.claim(1)
      const waiter = yield* Effect.forkChild(broker.awaitTerminal(running.id), { startImmediately: true })
      const wakeups = yield* listenTo(broker, [lane.queue])
      assert.strictEqual((yield* Queue.take(wakeups))._tag, "Resync")
      // All connections that the pools have are open, and lead to the old primary.
      yield* Effect.all(Array.from({ length: 12 }, () => broker.read(running.id)), { concurrency: "unbounded" })

      const old = yield* clientOf(at(primary.port), 1)
      const future = yield* clientOf(at(standby.port), 1)
      yield* eventually(
        "the standby has followed",
        Effect.map(
          future.sql`SELECT FROM effect_ray.executions WHERE id = ${running.id} AND state = 'running'`,
          (rows) => rows.length === 1
        )
      )
      yield* old.sql`ALTER SYSTEM SET default_transaction_read_only = on`.unprepared
      yield* old.sql`SELECT pg_reload_conf()`
      yield* future.sql`SELECT pg_promote()`
      address.leadTo(standby.port)
      yield* eventually(
        "the old primary takes no writes",
        Effect.map(Effect.exit(old.sql`CREATE TABLE t ()`), Exit.isFailure)
      )
      // A connection is given up that is no younger than a second.
      yield* Effect.sleep("1100 millis")

      const again = { times: 20 }
      const more = execution(lane)
      yield* Effect.retry(broker.enqueue([more]), again)
      yield* Effect.retry(
        app.sql.withTransaction(broker.enqueue([execution(lane)])),
        again
      )
      assert.isTrue((yield* Effect.retry(hired.tick, again)).alive)
      assert.deepStrictEqual(yield* Effect.retry(hired.succeed(claimed), again), ["Settled"])
      assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
      assert.strictEqual(yield* Effect.retry(broker.cancel(waiting.id), again), "Cancelled")
      const double = yield* Effect.retry(withBroker(Task.enqueue(Double, { n: 21 })), again)
      assert.strictEqual(yield* double.await, 42)

      // The listener hears what others tell the new primary.
      const other = yield* clientOf(at(standby.port), 2)
      const elsewhere = yield* Effect.provideContext(PgBroker.make(), other.context)
      yield* Queue.clear(wakeups)
      const telling = yield* Effect.forkChild(
        Effect.forever(Effect.andThen(
          Effect.suspend(() => elsewhere.enqueue([execution(lane)])),
          Effect.sleep("100 millis")
        ))
      )
      yield* Effect.repeat(Queue.take(wakeups), { until: ({ _tag }) => _tag === "Enqueued" })
      yield* Fiber.interrupt(telling)
      // And nothing is left that leads to the old one.
      yield* eventually(
        "no session of ours is at the old primary",
        Effect.gen(function*() {
          // What idles in a pool is found out when it is used.
          yield* Effect.ignore(Effect.all(
            Array.from({ length: 8 }, () => app.sql.withTransaction(broker.enqueue([execution(lane)]))),
            { concurrency: "unbounded" }
          ))
          const sessions = yield* old.sql`
            SELECT FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
          `
          return sessions.length === 0
        })
      )
    }).pipe(Effect.timeout("110 seconds")))

  it.live("is waited for by who reads from a standby: it does not take what it cannot see for lost", () =>
    Effect.gen(function*() {
      const { primary, standby } = yield* makePair
      const writer = yield* clientOf(primary.url, 2)
      yield* Effect.provideContext(PgMigrations.migrate(), writer.context)
      const url = new URL(Redacted.value(primary.url))
      url.port = String(standby.port)
      const reader = yield* clientOf(Redacted.make(url.href), 2)
      yield* eventually(
        "the standby has followed",
        Effect.map(Effect.exit(reader.sql`SELECT FROM effect_ray.executions`), Exit.isSuccess)
      )
      const broker = yield* Effect.provideContext(PgBroker.make(), reader.context)
      const error = yield* Effect.flip(broker.read(execution().id))
      assert.match(error.message, /this server is a standby/)
      const waiter = yield* Effect.forkChild(broker.awaitTerminal(execution().id), { startImmediately: true })
      yield* Effect.sleep("500 millis")
      assert.isUndefined(waiter.pollUnsafe())
      yield* Fiber.interrupt(waiter)
    }).pipe(Effect.timeout("110 seconds")))
})

/** How a process hears of what others do, and what it does when it cannot. */
import { Broker, type Wakeup } from "@effect-ray/core/Broker"
import { PgBroker } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Redacted from "effect/Redacted"
import { listenTo } from "../../core/test/brokerSuite/kit.ts"
import { listenConfig } from "../src/internal/listenConfig.ts"
import { makeLocal } from "../src/internal/local.ts"
import { channelOf } from "../src/internal/schemaName.ts"
import { database, eventually, execution, hire, makeLane, uuid } from "./kit.ts"
import { TestPooler } from "./TestPooler.ts"
import * as Pooler from "./TestPooler.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** Warnings that were logged, by their first words. */
const warnings = () => {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel === "Warn") lines.push(String(Array.isArray(message) ? message[0] : message))
  })
  return {
    layer: Logger.layer([logger]),
    of: (words: string) => lines.filter((line) => line.startsWith(words)).length
  }
}

const clientOf = (config: PgClient.PgPoolConfig) =>
  PgClient.make(config).pipe(Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make))

/** Takes wake-ups until one is of this kind. */
const until = (wakeups: Queue.Dequeue<Wakeup>, tag: Wakeup["_tag"]) =>
  Effect.repeat(Queue.take(wakeups), { until: ({ _tag }) => _tag === tag })

describe("The connection for LISTEN", () => {
  const of = (client: PgClient.PgClientConfig, listen?: PgClient.PgClientConfig) => {
    const { password, url, ...rest } = listenConfig(client, listen)
    const text = (secret: unknown) => Redacted.isRedacted(secret) ? Redacted.value(secret) : undefined
    return { ...rest, ...(url ? { url: text(url) } : {}), ...(password ? { password: text(password) } : {}) }
  }
  const url = (text: string) => Redacted.make(text)

  it("leads where the client leads, unless something is given", () => {
    assert.deepStrictEqual(of({ host: "pooler", port: 6432 }), { host: "pooler", port: 6432 })
    assert.deepStrictEqual(of({ host: "pooler", port: 6432 }, { port: 5432 }), { host: "pooler", port: 5432 })
    assert.deepStrictEqual(of({ url: url("postgres://pooler:6432/db") }, { port: 5432 }), {
      url: "postgres://pooler:6432/db",
      port: 5432
    })
  })

  it("leads to the url that is given, whatever the client says of its own address", () => {
    const client = {
      host: "pooler",
      port: 6432,
      path: "/run/pooler/.s.PGSQL.6432",
      database: "pooled",
      username: "app",
      password: url("secret"),
      ssl: true,
      applicationName: "app",
      prepare: false
    }
    assert.deepStrictEqual(of(client, { url: url("postgres://me:mine@db:5432/real?sslmode=disable") }), {
      url: "postgres://me:mine@db:5432/real?sslmode=disable",
      applicationName: "app",
      prepare: false
    })
    // What it leaves open is as the client has it.
    assert.deepStrictEqual(of(client, { url: url("postgres://db") }), {
      url: "postgres://db",
      database: "pooled",
      username: "app",
      password: "secret",
      ssl: true,
      applicationName: "app",
      prepare: false
    })
  })

  it("leads to the host that is given, with what the client's url says of who and which database", () => {
    assert.deepStrictEqual(
      of({ url: url("postgres://app:s%2Fcret@pooler:6432/db") }, { host: "db", path: undefined }),
      {
        host: "db",
        username: "app",
        password: "s/cret",
        database: "db"
      }
    )
  })

  it("keeps what the client's url says of TLS, its name and its options", () => {
    const rest = "application_name=shop&options=-c%20geqo%3Doff&connect_timeout=7"
    const client = (mode: string) => ({ url: url(`postgres://pooler:6432/db?sslmode=${mode}&${rest}`) })
    const fields = {
      database: "db",
      applicationName: "shop",
      startupOptions: "-c geqo=off",
      connectTimeout: Duration.seconds(7)
    }
    for (const [mode, ssl] of [["require", true], ["verify-full", true], ["disable", false]] as const) {
      assert.deepStrictEqual(of(client(mode), { host: "db", port: 5432 }), { ...fields, host: "db", port: 5432, ssl })
      assert.deepStrictEqual(of(client(mode), { url: url("postgres://db") }), {
        ...fields,
        url: "postgres://db",
        ssl
      })
    }
    // What is given decides.
    assert.deepStrictEqual(of(client("require"), { host: "db", ssl: false }), { ...fields, host: "db", ssl: false })
    const said = "postgres://db/other?sslmode=disable&application_name=ears"
    const { applicationName: _, database: __, ...left } = fields
    assert.deepStrictEqual(of(client("require"), { url: url(said) }), { ...left, url: said })
    // No field says that TLS is used where the server has it.
    assert.deepStrictEqual(of(client("prefer"), { host: "db" }), {
      ...fields,
      host: "db",
      url: "postgres:///?sslmode=prefer"
    })
    assert.deepStrictEqual(of(client("allow"), { url: url("postgres://db") }), {
      ...fields,
      url: "postgres://db?sslmode=allow"
    })
    assert.deepStrictEqual(of(client("prefer"), { url: url(said) }), { ...left, url: said })
    assert.deepStrictEqual(of(client("prefer"), { host: "db", ssl: true }), { ...fields, host: "db", ssl: true })
  })
})

describe("What is due later", () => {
  it.live("costs a timer a queue, however often and of whatever is told", () =>
    Effect.gen(function*() {
      const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length
      const local = yield* makeLocal
      const heard: Array<string> = []
      yield* local.listen(["known", "other"], (wakeup) => {
        if (wakeup._tag === "Enqueued") heard.push(wakeup.queue)
      })
      const before = timers()
      for (let n = 0; n < 10_000; n++) {
        local.enqueued(new Map([["known", 60 + n % 7], [`unknown-${n}`, 10], [`due-${n}`, 0]]))
        local.enqueued(new Map([["known", Number.MAX_VALUE], ["other", Infinity], ["other", Number.NaN]]))
      }
      assert.isAtMost(timers() - before, 2)
      yield* eventually("it is told once", Effect.sync(() => heard.length > 0))
      yield* Effect.sleep("50 millis")
      assert.deepStrictEqual(heard.filter((queue) => queue !== "other"), ["known"])
      // A second and a third time, once the first is over.
      for (let times = 2; times <= 3; times++) {
        local.enqueued(new Map([["known", 1]]))
        yield* eventually(
          "it is told again",
          Effect.sync(() => heard.filter((queue) => queue === "known").length === times)
        )
      }
    }))
})

for (const version of TestPostgres.versions) {
  const suite = Pooler.layer.pipe(Layer.provideMerge(TestPostgres.layer(version)))
  layer(suite, { excludeTestServices: true })(`Listening on Postgres ${version}`, (it) => {
    it.effect("through a pooler is found to be deaf, said once, and made up for by looking", () =>
      Effect.gen(function*() {
        const here = yield* Broker
        const pooler = yield* TestPooler
        const log = warnings()
        const client = yield* clientOf({ url: pooler.url, prepare: false, maxConnections: 2 })
        const { name: schema } = yield* TestPostgres.TestSchema
        // The first probe takes its five seconds; the ones that follow would say the same again.
        const there = yield* PgBroker.make({ schema, pollInterval: "50 millis", probeInterval: "20 millis" }).pipe(
          Effect.provideService(PgClient.PgClient, client),
          Effect.provide(log.layer)
        )
        const lane = makeLane()
        const given = execution(lane)
        const wakeups = yield* listenTo(there, [lane.queue])
        // A supervisor is told to look although nobody tells of anything.
        for (let looks = 0; looks < 3; looks++) yield* until(wakeups, "Resync")
        assert.strictEqual(log.of("notifications of Postgres do not arrive"), 1)
        yield* there.enqueue([given])
        const waiter = yield* Effect.forkChild(there.awaitTerminal(given.id), { startImmediately: true })
        const worker = yield* hire(here, [lane])
        yield* worker.succeed(yield* worker.claim())
        assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
        // It is tried again, and again: the pooler drops what Postgres sends to no transaction.
        const before = yield* pooler.dropped
        yield* eventually("another try", Effect.map(pooler.dropped, (dropped) => dropped > before))
        assert.strictEqual(log.of("notifications of Postgres do not arrive"), 1)
      }))

    for (const by of ["a url", "host and port"]) {
      it.effect(`beside a pooler that the client reaches by ${by} hears everything`, () =>
        Effect.gen(function*() {
          const here = yield* Broker
          const pooler = yield* TestPooler
          const { url } = yield* TestPostgres.TestServer
          const log = warnings()
          const parsed = new URL(Redacted.value(pooler.url))
          const address = by === "a url" ? { url: pooler.url } : {
            host: "127.0.0.1",
            port: pooler.port,
            username: parsed.username,
            password: Redacted.make(parsed.password),
            database: parsed.pathname.slice(1)
          }
          const client = yield* clientOf({ ...address, prepare: false })
          const { name: schema } = yield* TestPostgres.TestSchema
          const there = yield* PgBroker.make({ schema, listen: { url } }).pipe(
            Effect.provideService(PgClient.PgClient, client),
            Effect.provide(log.layer)
          )
          const lane = makeLane()
          const wakeups = yield* listenTo(there, [lane.queue])
          yield* until(wakeups, "Resync")
          yield* here.enqueue([execution(lane)])
          yield* until(wakeups, "Enqueued")
          assert.strictEqual(log.of("notifications of Postgres do not arrive"), 0)
        }))
    }

    it.effect("is probed again and again, and is heard of when Postgres answers", () =>
      Effect.gen(function*() {
        const { s, sql } = yield* database
        const { name: schema } = yield* TestPostgres.TestSchema
        const { url } = yield* TestPostgres.TestServer
        const name = `probed ${uuid()}`
        const broker = yield* PgBroker.make({
          schema,
          probeInterval: "50 millis",
          listen: { url, applicationName: name }
        })
        const wakeups = yield* listenTo(broker, ["any"])
        yield* until(wakeups, "Resync")
        const pids = Effect.map(
          sql<{ readonly pid: number }>`SELECT pid FROM pg_stat_activity WHERE application_name = ${name}`,
          (rows) => rows.map(({ pid }) => pid)
        )
        const [first] = yield* pids
        for (let times = 0; times < 3; times++) {
          yield* sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ${name}`
          yield* until(wakeups, "Resync")
        }
        const [last] = yield* pids
        assert.notStrictEqual(last, first)
        assert.isDefined(yield* sql`SELECT FROM ${s}.supervisors LIMIT 1`)
      }))

    it.effect("believes no message that somebody sends: nothing is stopped, kept or broken for it", () =>
      Effect.gen(function*() {
        const broker = yield* Broker
        const { sql } = yield* database
        const { name: schema } = yield* TestPostgres.TestSchema
        const there = yield* PgBroker.make({ schema })
        const lane = makeLane()
        const wakeups = yield* listenTo(there, [lane.queue])
        yield* until(wakeups, "Resync")
        const [running] = yield* broker.enqueue([execution(lane)])
        const worker = yield* hire(there, [lane])
        assert.lengthOf(yield* worker.claim(), 1)
        yield* until(wakeups, "Enqueued")
        const channel = channelOf(schema)
        const say = (message: unknown) =>
          sql`SELECT pg_notify(${channel}, ${typeof message === "string" ? message : JSON.stringify(message)})`
        const rubbish: ReadonlyArray<unknown> = [
          "",
          "{",
          "[]",
          "null",
          "x".repeat(7_000),
          { from: "me" },
          { from: "me", queues: "all" },
          { from: "me", queues: [[lane.queue, "soon"]] },
          { from: "me", queues: [["unknown", 0]] },
          "{\"from\":\"me\",\"queues\":[[\"" + lane.queue + "\",1e999]]}",
          { from: "me", queues: Array.from({ length: 300 }, (_, n) => [`u${n}`, n]) },
          { from: "me", queues: [[lane.queue, 2 ** 40]] },
          { from: "me", cancelling: [running!.id] },
          { from: "me", cancelling: ["no uuid", "'; DROP TABLE x; --"] },
          { from: "me", cancelling: Array.from({ length: 150 }, () => uuid()) },
          { __proto__: { from: "me" }, constructor: 1 }
        ]
        for (let times = 0; times < 3; times++) for (const message of rubbish) yield* say(message)
        for (const id of ["echo 00", "not,a,uuid", running!.id]) {
          yield* sql`SELECT pg_notify(${`${channel}_0000000000000000`}, ${id})`
        }
        // Messages come in order: what follows was heard after all that.
        yield* broker.enqueue([execution(lane)])
        yield* until(wakeups, "Enqueued")
        assert.isFalse((yield* Queue.clear(wakeups)).some(({ _tag }) => _tag === "Cancelling"))
        // And what somebody has asked for is told.
        yield* broker.cancel(running!.id)
        assert.deepStrictEqual(yield* until(wakeups, "Cancelling"), { _tag: "Cancelling", id: running!.id })
      }))

    it.effect("tells once of a lane that nobody serves, while what is awaited waits for nothing else", () =>
      Effect.gen(function*() {
        const { name: schema } = yield* TestPostgres.TestSchema
        const log = warnings()
        const broker = yield* PgBroker.make({
          schema,
          pollInterval: "20 millis",
          notify: false,
          unservedPatience: "200 millis"
        })
          .pipe(Effect.provide(log.layer))
        const words = "an awaited execution is due"
        const [served, orphaned, later] = [makeLane(), makeLane(), makeLane()]
        const worker = yield* hire(broker, [served])
        const waiting = Effect.fnUntraced(function*(overrides: Parameters<typeof execution>[0]) {
          const [enqueued] = yield* broker.enqueue([execution(overrides)])
          return yield* Effect.forkChild(broker.awaitTerminal(enqueued!.id), { startImmediately: true })
        })
        yield* waiting({ ...later, due: { _tag: "After", delay: Duration.hours(1) } })
        yield* waiting(served)
        const running = yield* waiting(served)
        assert.lengthOf(yield* worker.claim(1), 1)
        // Nobody serves this one any more, and it runs.
        yield* Effect.sleep("500 millis")
        assert.strictEqual(log.of(words), 0)
        const first = yield* waiting(orphaned)
        yield* waiting(orphaned)
        yield* eventually("it is told", Effect.sync(() => log.of(words) === 1))
        yield* Effect.sleep("300 millis")
        assert.strictEqual(log.of(words), 1)

        // Served, and then not again: told a second time.
        const other = yield* hire(broker, [orphaned])
        yield* other.succeed(yield* other.claim(1))
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(first)))
        yield* Effect.sleep("200 millis")
        yield* broker.unregister(other.supervisor)
        yield* eventually("it is told again", Effect.sync(() => log.of(words) === 2))
        yield* Fiber.interrupt(running)
      }))
  })
}

import { assert, layer } from "@effect/vitest"
import { Task } from "effect-ray"
import * as Broker from "@effect-ray/core/Broker"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Settings from "effect-ray/Settings"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Database from "./database.ts"
import { Crowd, Double, Forever, Hold } from "./fixtures/tasks.ts"
import { startCollector } from "./collector.ts"
import { eventually, fixture, run, start, temporaryFolder } from "./kit.ts"
import * as Wire from "./wire.ts"

const worker = fixture("worker.ts")

const record = (id: string) => Effect.flatMap(Broker.Broker, (broker) => Effect.map(broker.read(id), Option.getOrThrow))

const untilRunning = (ids: ReadonlyArray<string>) =>
  eventually(Effect.forEach(ids, record), (records) => records.every((record) => record.state === "running"))

layer(Database.layer, { timeout: "3 minutes", excludeTestServices: true })("effect-ray on Postgres", (it) => {
  it.effect("runs tasks in this process, and ends with 0 at SIGTERM", () =>
    Effect.gen(function*() {
      const env = yield* Database.environment
      const execution = yield* Task.enqueue(Double, { n: 21 })
      const program = yield* start(["worker", worker, "--in-process"], { env })
      assert.strictEqual(yield* execution.await, 42)
      yield* program.signal("SIGTERM")
      assert.strictEqual(yield* program.exit, 0)
      const messages = program.logs().map((line) => line.message)
      for (const words of ["worker starting", "supervisor started", "supervisor stopped", "worker stopped"]) {
        assert.include(messages, words)
      }
      assert.include(program.stderr(), "Reverse is not served")
    }))

  it.effect("drains at SIGTERM: what can finish finishes, the rest goes back uncounted", () =>
    Effect.gen(function*() {
      const env = yield* Database.environment
      const folder = yield* temporaryFolder
      const release = path.join(folder, "release")
      const holds = yield* Task.enqueueAll(Hold, Array.from({ length: 20 }, () => ({ release })))
      const endless = yield* Task.enqueueAll(Forever, Array.from({ length: 5 }, () => undefined))
      const ids = [...holds, ...endless].map((execution) => execution.id)
      const program = yield* start(["worker", worker, "--in-process", "--queue", "held", "--drain", "2 seconds"], {
        env
      })
      yield* untilRunning(ids)
      yield* program.signal("SIGTERM")
      yield* program.says("draining")
      fs.writeFileSync(release, "")
      assert.strictEqual(yield* program.exit, 0)
      for (const execution of holds) {
        assert.strictEqual(yield* execution.await, 1)
      }
      for (const execution of endless) {
        const { attempts, losses, state } = yield* record(execution.id)
        assert.deepStrictEqual({ attempts, losses, state }, { attempts: 0, losses: 0, state: "queued" })
      }
      // The next worker has them at once, as their first attempt.
      const next = yield* start(["worker", worker, "--in-process", "--queue", "held", "--drain", "0 seconds"], { env })
      yield* untilRunning(endless.map((execution) => execution.id))
      yield* next.signal("SIGINT")
      assert.strictEqual(yield* next.exit, 0)
      for (const execution of endless) yield* execution.cancel
    }))

  it.effect("--sync runs one attempt at a time, --concurrency several", () =>
    Effect.gen(function*() {
      const env = yield* Database.environment
      for (const [flags, most] of [[["--sync"], 1], [["--in-process", "--concurrency", "3"], 3]] as const) {
        const executions = yield* Task.enqueueAll(Crowd, Array.from({ length: 12 }, () => undefined))
        const program = yield* start(["worker", worker, ...flags, "--queue", "crowd"], { env })
        const crowds = yield* Effect.forEach(executions, (execution) => execution.await, { concurrency: "unbounded" })
        assert.strictEqual(Math.max(...crowds), most)
        yield* program.signal("SIGTERM")
        assert.strictEqual(yield* program.exit, 0)
      }
    }))

  it.effect("serves only the queues it was told to", () =>
    Effect.gen(function*() {
      const env = yield* Database.environment
      const other = yield* Task.enqueue(Double, { n: 1 })
      const mine = yield* Task.enqueue(Crowd)
      yield* start(["worker", worker, "--in-process", "--queue", "crowd"], { env })
      yield* mine.await
      assert.strictEqual((yield* record(other.id)).state, "queued")
    }))

  it.effect("refuses a schema that is behind and says what to do", () =>
    Effect.gen(function*() {
      const env = { ...(yield* Database.environment), EFFECT_RAY_SCHEMA: "effect_ray_not_there" }
      const { code, stderr } = yield* run(["worker", worker, "--in-process"], { env })
      assert.strictEqual(code, 1)
      assert.match(stderr, /effect_ray_not_there lacks 0001_initial.*effect-ray migrate/)
    }))

  it.effect("tells why the handlers' layer cannot be built, whatever it was, and ends with 1", () =>
    Effect.gen(function*() {
      const env = yield* Database.environment
      const reasons = {
        interrupted: "it interrupted itself",
        died: "TypeError: no such pool",
        nothing: "Error: undefined",
        rejected: "RangeError: the port is taken",
        unprovided: "Error: Service not found: app/Database. Provide it to the handler's layer",
        failed: "Error: refused"
      }
      for (const [UNBUILT, words] of Object.entries(reasons)) {
        const { code, stderr } = yield* run(["worker", fixture("unbuilt.ts"), "--in-process"], {
          env: { ...env, UNBUILT }
        })
        assert.strictEqual(code, 1, UNBUILT)
        assert.include(stderr, `The layer of the worker's handlers could not be built: ${words}`)
      }
    }))

  it.effect("refuses tasks of which its runner can run none", () =>
    Effect.gen(function*() {
      const env = yield* Database.environment
      const { code, stderr } = yield* run(["worker", fixture("modules/python.ts"), "--in-process"], { env })
      assert.strictEqual(code, 2)
      assert.match(stderr, /can run none of the requested tasks: Train \(Python\)\. Python tasks need Ray/)
      // Others of the worker's tasks are of no help, when only the queue of this one is served.
      const queue = yield* run(["worker", worker, "--in-process", "--queue", "python"], { env })
      assert.strictEqual(queue.code, 2)
      assert.match(queue.stderr, /can run none of the requested tasks: Reverse \(Python\)/)
    }))

  it.effect("goes through a pooler: nothing is prepared when told so, and changes are heard past it", () =>
    Effect.gen(function*() {
      const { DATABASE_URL, EFFECT_RAY_SCHEMA } = yield* Database.environment
      for (const flags of [[], ["--no-prepare"]]) {
        const pooler = yield* Wire.make(DATABASE_URL)
        const direct = yield* Wire.make(DATABASE_URL)
        const env = { DATABASE_URL: pooler.url, EFFECT_RAY_LISTEN_URL: direct.url, EFFECT_RAY_SCHEMA }
        const program = yield* start(["worker", worker, "--in-process", ...flags], { env })
        yield* program.says("supervisor started")
        yield* eventually(Effect.sync(direct.listening), (listening) => listening)
        const execution = yield* Task.enqueue(Double, { n: 4 })
        assert.strictEqual(yield* execution.await, 8)
        assert.isFalse(pooler.listening())
        if (flags.length > 0) assert.strictEqual(pooler.prepared(), 0)
        else assert.isAbove(pooler.prepared(), 0)
        yield* program.signal("SIGTERM")
        assert.strictEqual(yield* program.exit, 0)
      }
    }))

  it.effect("gives an application the same schema and limits by the same variables", () =>
    Effect.gen(function*() {
      const { EFFECT_RAY_SCHEMA } = yield* Database.environment
      const env = { EFFECT_RAY_SCHEMA, EFFECT_RAY_MAX_ATTEMPTS: "7" }
      const execution = yield* Task.enqueue(Double, { n: 1 }).pipe(
        Effect.provide(Settings.layerBroker),
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromEnv({ env }))
      )
      const sql = yield* PgClient.PgClient
      const rows = yield* sql`SELECT max_attempts FROM ${sql(EFFECT_RAY_SCHEMA)}.executions WHERE id = ${execution.id}`
      assert.deepStrictEqual(rows.map((row) => Number(row["max_attempts"])), [7])
      yield* execution.cancel
    }))

  it.effect("says which variable is no setting, and which may be meant", () =>
    Effect.gen(function*() {
      const env = { ...(yield* Database.environment), EFFECT_RAY_CONCURENCY: "5" }
      const { code, stderr } = yield* run(["migrate"], { env })
      assert.strictEqual(code, 0)
      assert.match(stderr, /EFFECT_RAY_CONCURENCY is not a setting .* nearest is EFFECT_RAY_CONCURRENCY/)
    }))

  it.effect("writes its log as JSON or for people", () =>
    Effect.gen(function*() {
      const env = yield* Database.environment
      const program = yield* start(["worker", worker, "--in-process", "--log-format", "pretty"], { env })
      yield* program.says("supervisor started")
      assert.strictEqual(program.logs().length, 0)
      assert.notInclude(program.stderr(), "\u001b[")
      yield* program.signal("SIGINT")
      assert.strictEqual(yield* program.exit, 0)
    }))

  it.effect("sends spans to a collector, in the trace of the enqueue", () =>
    Effect.gen(function*() {
      const collector = yield* startCollector
      const env = {
        ...(yield* Database.environment),
        OTEL_TRACES_EXPORTER: "otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url
      }
      const program = yield* start(["worker", worker, "--in-process"], { env })
      const traceId = yield* Effect.gen(function*() {
        const execution = yield* Task.enqueue(Double, { n: 1 })
        yield* execution.await
        return (yield* Effect.currentSpan).traceId
      }).pipe(Effect.withSpan("test"))
      yield* program.signal("SIGTERM")
      assert.strictEqual(yield* program.exit, 0)
      const spans = collector.spans().filter((span) => span.traceId === traceId)
      assert.includeMembers(spans.map((span) => span.name), ["Supervisor.attempt", "Double.run"])
    }))

  it.effect("migrate prints what is pending, applies it, and then has nothing to do", () =>
    Effect.gen(function*() {
      const schema = `effect_ray_test_${randomBytes(6).toString("hex")}`
      const env = { ...(yield* Database.environment), EFFECT_RAY_SCHEMA: schema }
      yield* Effect.addFinalizer(() => Effect.orDie(Database.drop(schema)))

      const dry = yield* run(["migrate", "--dry-run"], { env })
      assert.strictEqual(dry.code, 0)
      assert.match(
        dry.stdout,
        /^BEGIN ISOLATION LEVEL READ COMMITTED;\n[^]*CREATE TABLE "effect_ray_test_\w+"\.executions[^]*\nCOMMIT;\n$/
      )
      assert.strictEqual((yield* run(["migrate", "--dry-run"], { env })).stdout, dry.stdout)

      const [first, second] = yield* Effect.all([run(["migrate"], { env }), run(["migrate"], { env })], {
        concurrency: 2
      })
      assert.deepStrictEqual([first.code, second.code], [0, 0])
      assert.strictEqual((first.stderr + second.stderr).match(/applied 0001_initial/g)?.length, 1)

      assert.include((yield* run(["migrate"], { env })).stderr, "is up to date")
      assert.include((yield* run(["migrate", "--dry-run"], { env })).stdout, "is up to date")
    }))
})

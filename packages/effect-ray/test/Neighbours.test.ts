/** One bad neighbour stops no other: tasks that no host can be had for, on a real Postgres and a real Ray. */
import { assert, layer } from "@effect/vitest"
import { Broker } from "@effect-ray/core/Broker"
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Task } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as database from "./database.ts"
import { Healthy, Impossible, Missing } from "./fixtures/neighbours.ts"
import { Backwards, Secretive } from "./fixtures/secretive.ts"
import { eventually, fixture, start, temporaryFolder } from "./kit.ts"

const ray = Layer.unwrap(
  Effect.map(temporaryFolder, (folder) => LocalRay.layer({ stateFolder: folder, cpus: 2 }))
)

const startWorker = Effect.fnUntraced(function*(module: string, env: Readonly<Record<string, string>> = {}) {
  const cluster = yield* LocalRay.LocalRay
  return yield* start(["worker", fixture(module)], {
    env: {
      ...(yield* database.environment),
      RAY_ADDRESS: cluster.address,
      RAY_AUTH_TOKEN: Redacted.value(cluster.token),
      EFFECT_RAY_LOG_FORMAT: "json",
      ...env
    }
  })
})

const record = (id: string) => Effect.flatMap(Broker, (broker) => Effect.map(broker.read(id), Option.getOrThrow))

/** Waits until the reason why it is held back has these words: at first a host is merely on its way. */
const isHeldFor = (id: string, words: string) =>
  eventually(Effect.map(record(id), ({ held }) => Option.getOrElse(held, () => "")), (held) => held.includes(words))

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

layer(Layer.mergeAll(database.layer, ray), { timeout: "3 minutes", excludeTestServices: true })("Neighbours", (it) => {
  it.effect(
    "run though the hosts of others cannot be had; what waits is told why, and fails in the end",
    () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { EFFECT_RAY_SCHEMA } = yield* database.environment
        const missing = yield* Task.enqueueAll(Missing, numbers(250))
        const impossible = yield* Task.enqueueAll(Impossible, numbers(250))
        const healthy = yield* Task.enqueueAll(Healthy, numbers(200))
        const worker = yield* startWorker("neighbours.ts", { EFFECT_RAY_UNSCHEDULABLE_AFTER: "10 seconds" })
        // From the start: the reason is on the row only until the patience ends.
        const held = yield* Effect.forkChild(Effect.all([
          isHeldFor(missing[249]!.id, "No matching distribution"),
          isHeldFor(impossible[249]!.id, "unobtainium")
        ], { concurrency: "unbounded" }))
        for (const [n, execution] of healthy.entries()) assert.strictEqual(yield* execution.await, n)
        yield* Fiber.join(held)
        const more = yield* Task.enqueueAll(Healthy, numbers(200))
        for (const [n, execution] of more.entries()) assert.strictEqual(yield* execution.await, n)
        for (const execution of impossible) {
          const exit = yield* Effect.exit(execution.await)
          const error = Option.getOrThrow(Exit.findErrorOption(exit))
          assert(error._tag === "TaskError" && error.reason._tag === "Unschedulable", String(error))
          assert.include(error.message, "unobtainium")
        }
        const attempts = yield* sql<{ readonly n: bigint }>`SELECT count(*) AS n FROM ${
          sql(EFFECT_RAY_SCHEMA!)
        }.attempts`
        assert.strictEqual(Number(attempts[0]!.n), 0)
        const told = worker.logs().filter(({ message }) => String(message).includes("are held back"))
        assert.isNotEmpty(told)
        assert.isAtMost(told.length, 10)
        yield* worker.signal("SIGTERM")
        assert.strictEqual(yield* worker.exit, 0)
      }),
    300_000
  )

  it.effect("are told which variable a layer misses, before and when they fail of it", () =>
    Effect.gen(function*() {
      const worker = yield* startWorker("secretive.ts", {
        NEIGHBOURS_SECRET: "sesame",
        EFFECT_RAY_UNSCHEDULABLE_AFTER: "5 seconds"
      })
      const secretive = yield* Task.enqueue(Secretive)
      const backwards = yield* Task.enqueue(Backwards, { text: "stressed" })
      assert.strictEqual(yield* backwards.await, "desserts")
      const cure = "Worker.make({ env: [\"NEIGHBOURS_SECRET\"] })"
      yield* isHeldFor(secretive.id, cure)
      assert.isTrue(worker.logs().some(({ level, message }) => level === "WARN" && String(message).includes(cure)))
      const error = yield* Effect.flip(secretive.await)
      assert(error._tag === "TaskError" && error.reason._tag === "HostFailed", String(error))
      assert.include(error.message, cure)
      assert.notInclude(worker.stderr(), "sesame")
      yield* worker.signal("SIGTERM")
      assert.strictEqual(yield* worker.exit, 0)
    }))
})

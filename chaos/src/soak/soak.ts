/**
 * A deployment under steady load for a given time: two workers on a local Ray, with TypeScript and Python tasks that
 * succeed, fail, are retried or are cancelled. It records the memory of every process, Ray's log files, and the rows of
 * every table.
 */
import { Broker } from "@effect-ray/core/Broker"
import * as EmbeddedPostgres from "@effect-ray/postgres/EmbeddedPostgres"
import * as PgBroker from "@effect-ray/postgres/PgBroker"
import * as PgMigrations from "@effect-ray/postgres/PgMigrations"
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Task } from "effect-ray"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { Chatter, Endless, Flaky, Sum } from "../tasks.ts"
import { residentBytes, sizeOf } from "./processes.ts"
import * as Series from "./series.ts"

/** @category models */
export interface Options {
  readonly duration: Duration.Duration
  /** How often everything is measured. */
  readonly interval: Duration.Duration
  /** How many executions are enqueued per second. */
  readonly rate: number
  readonly tell: (line: string) => Effect.Effect<void>
}

/** @category models */
export interface Report {
  readonly enqueued: number
  /** Executions that ended differently than they should, with details of the first few. */
  readonly wrong: ReadonlyArray<string>
  /** By name: `memory worker` in bytes, `rows history`, `files`, `logs` in bytes. */
  readonly series: ReadonlyMap<string, Series.Series>
  /** Rows left in the tables of unfinished work when everything has ended. */
  readonly left: ReadonlyMap<string, number>
}

/** Tables that must be empty when everything has ended, or have at most one row for each worker. */
const openTables = ["executions", "waiters", "holds"] as const
const tables = [...openTables, "history", "attempts", "keys", "batches", "supervisors", "gateways"] as const

const workers = 2

/** How long the last executions may take after the last enqueue. */
const patience = Duration.minutes(5)

/** The last lines of a log. */
const endOf = (file: string): string => fs.readFileSync(file, "utf8").slice(-4_000)

const bin = fileURLToPath(new URL("../../../packages/effect-ray/bin/effect-ray.js", import.meta.url))
const module = fileURLToPath(new URL("../worker.ts", import.meta.url))

const folder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-soak-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const startWorker = Effect.fnUntraced(function*(env: NodeJS.ProcessEnv, log: string) {
  return yield* Effect.acquireRelease(
    Effect.sync(() => {
      const output = fs.openSync(log, "a")
      const child = spawn(process.execPath, ["--conditions=@effect-ray/source", bin, "worker", module], {
        env: { ...process.env, ...env },
        stdio: ["ignore", output, output]
      })
      fs.closeSync(output)
      return child
    }),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null) return resume(Effect.void)
        child.on("exit", () => resume(Effect.void))
        child.kill("SIGTERM")
      })
  )
})

/** Enqueues one execution of the kind whose turn it is, waits for its end and returns what is wrong with it. */
const one = (n: number) => {
  const check = <A, E>(what: string, ended: Effect.Effect<A, E>, wanted: (exit: string) => boolean) =>
    Effect.map(Effect.result(ended), (result) => {
      const text = result._tag === "Success" ? JSON.stringify(result.success) : String(result.failure)
      return wanted(text) ? undefined : `${what}: ${text}`.slice(0, 500)
    })
  switch (n % 10) {
    case 0:
      return Effect.flatMap(
        Task.enqueue(Flaky, { n }),
        (execution) => check(`Flaky ${execution.id}`, execution.await, (text) => text === String(n))
      )
    case 1:
      return Effect.flatMap(Task.enqueue(Endless, { n }), (execution) =>
        Effect.andThen(
          Effect.andThen(Effect.sleep("1 second"), execution.cancel),
          check(`Endless ${execution.id}`, execution.await, (text) => text.includes("cancelled"))
        ))
    case 2:
    case 3:
      return Effect.flatMap(
        Task.enqueue(Sum, { numbers: [n, 1] }, { keyTimeToLive: "1 minute" }),
        (execution) => check(`Sum ${execution.id}`, execution.await, (text) => text === String(n + 1))
      )
    default:
      return Effect.flatMap(
        Task.enqueue(Chatter, { n }),
        (execution) => check(`Chatter ${execution.id}`, execution.await, (text) => text.length === (n % 4_096) + 2)
      )
  }
}

/** Runs the soak and reports. */
export const run = Effect.fn("soak")(function*(options: Options) {
  const root = yield* folder
  const server = yield* EmbeddedPostgres.make()
  const ray = yield* LocalRay.make({ stateFolder: path.join(root, "ray"), cpus: 2 })
  const client = PgClient.layer({ url: server.url })
  const body = Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const broker = yield* Broker
    yield* PgMigrations.migrate()
    const env = {
      DATABASE_URL: Redacted.value(server.url),
      RAY_ADDRESS: ray.address,
      RAY_AUTH_TOKEN: Redacted.value(ray.token)
    }
    for (let n = 0; n < workers; n++) yield* startWorker(env, path.join(root, `worker-${n}.log`))

    const began = performance.now()
    const hours = () => (performance.now() - began) / 3_600_000
    const series = new Map<string, Series.Series>()
    const note = (name: string, time: number, value: number) => {
      const known = series.get(name) ?? Series.make()
      series.set(name, known)
      Series.add(known, time, value)
    }
    const countRows = Effect.forEach(tables, (table) =>
      Effect.map(
        sql<{ readonly n: bigint }>`SELECT count(*) AS n FROM effect_ray.${sql.literal(table)}`,
        ([row]) => [table, Number(row!.n)] as const
      ))
    const look = Effect.gen(function*() {
      const time = hours()
      for (const [kind, bytes] of residentBytes(process.pid)) note(`memory ${kind}`, time, bytes)
      for (const [table, rows] of yield* countRows) note(`rows ${table}`, time, rows)
      const { bytes, files } = sizeOf(ray.logs)
      note("logs", time, bytes)
      note("files", time, files)
      note("logs of workers", time, sizeOf(root).bytes)
    })

    const tellOpen = Effect.gen(function*() {
      const rows = yield* sql<{ readonly execution: string }>`
        SELECT to_jsonb(e) - 'payload' || jsonb_build_object('now', now()) AS execution
        FROM effect_ray.executions e ORDER BY run_at LIMIT 10`
      const logs = Array.from({ length: workers }, (_, n) => endOf(path.join(root, `worker-${n}.log`)))
      return [...rows.map(({ execution }) => `has not ended: ${JSON.stringify(execution)}`), ...logs]
    })

    let enqueued = 0
    const wrong: Array<string> = []
    const until = began + Duration.toMillis(options.duration)
    const load = Effect.gen(function*() {
      const running = new Set<Fiber.Fiber<unknown, unknown>>()
      while (performance.now() < until) {
        const fiber = yield* Effect.forkChild(
          Effect.map(Effect.provideService(one(enqueued++), Broker, broker), (fault) => {
            if (fault !== undefined) wrong.push(fault)
          })
        )
        running.add(fiber)
        fiber.addObserver(() => running.delete(fiber))
        yield* Effect.sleep(Duration.millis(1_000 / options.rate))
      }
      const ended = Effect.forEach([...running], Fiber.await, { discard: true })
      const inTime = yield* Effect.timeoutOption(ended, patience)
      if (inTime._tag === "None") wrong.push(...yield* tellOpen)
    })
    const watch = yield* Effect.forkChild(
      Effect.repeat(look, Schedule.spaced(options.interval))
    )
    yield* options.tell(`${options.rate} executions a second for ${Duration.format(options.duration)}`)
    yield* load
    yield* Fiber.interrupt(watch)
    yield* look
    const left = new Map<string, number>()
    for (const [table, rows] of yield* countRows) {
      if ((openTables as ReadonlyArray<string>).includes(table)) left.set(table, rows)
    }
    return { enqueued, wrong, series, left } satisfies Report
  })
  return yield* Effect.provide(body, Layer.provideMerge(PgBroker.layer(), client))
}, Effect.scoped)

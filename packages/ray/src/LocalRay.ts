/**
 * A Ray on this machine, for development, tests and demos.
 *
 * `layer` finds the head recorded in the state folder, if it is alive, or starts one: a child of this process, every
 * listener on loopback, ports of its own, a token of its own. A head that this process started ends with the scope. One
 * that was found stays with the process that started it; where that process is gone, its finder ends it.
 *
 * Several may run on one machine beside each other. Nothing here touches a Ray that it did not start.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { freePorts } from "./internal/freePorts.ts"
import { whileLocked, writePrivately } from "./internal/stateFiles.ts"
import { endGroup, isAlive, processId, same } from "./internal/processes.ts"
import { findRay } from "./internal/rayExecutable.ts"
import * as RayCluster from "./RayCluster.ts"
import { LocalRayFailed, RayError } from "./RayError.ts"

/** Ray takes up to 34 s from SIGTERM to its end; then its process group is killed. @category constants */
export const stopTimeout = Duration.seconds(45)

/** How long a head may take until it accepts jobs. @category constants */
export const startTimeout = Duration.seconds(90)

/** The object store is not used for payloads, so it need not be large. In bytes. */
const objectStoreBytes = 256 * 1024 * 1024

/** As long as a command line holds this, workers may be running; the rest of a head only keeps books. */
const raylet = "/raylet/raylet "

/** Unix sockets live below the temporary folder, and their paths may have 107 bytes. */
const maxTempDirLength = 32

/** @category services */
export class LocalRay extends Context.Service<LocalRay, {
  /** The dashboard's URL. */
  readonly address: string
  readonly token: Redacted.Redacted<string>
  /** The head's own process, leader of its process group. */
  readonly pid: number
  /** Whether it was running before. */
  readonly found: boolean
}>()("@effect-ray/ray/LocalRay") {}

/**
 * The options of `layer`.
 *
 * @category models
 */
export interface Options {
  /** Where the head is recorded. Default: `.effect-ray` in the working directory. */
  readonly stateFolder?: string
  /** CPUs that Ray may give away. Default: those of this machine, at least 2. */
  readonly cpus?: number
  /** GPUs and custom resources that Ray is told it has. */
  readonly gpus?: number
  readonly resources?: Readonly<Record<string, number>>
  /** The `ray` executable. Default: `EFFECT_RAY_PYTHON`'s neighbour, the nearest `.venv` upwards, then the PATH. */
  readonly ray?: string
}

const Head = Schema.Struct({
  address: Schema.String,
  token: Schema.String,
  tempDir: Schema.String,
  /** The head, and the process that started it; `started` tells a process from a later one with the same number. */
  head: Schema.Struct({ pid: Schema.Int, started: Schema.String }),
  owner: Schema.Struct({ pid: Schema.Int, started: Schema.String })
})
type Head = typeof Head.Type
const HeadJson = Schema.fromJsonString(Head)

const failed = (detail: string, fix: string) => new RayError({ reason: new LocalRayFailed({ detail, fix }) })

/**
 * Finds or starts the local head.
 *
 * @category constructors
 */
export const make = Effect.fn("LocalRay.make")(function*(
  options: Options = {}
): Effect.fn.Return<LocalRay["Service"], RayError, Scope.Scope> {
  const folder = path.resolve(options.stateFolder ?? ".effect-ray")
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  return yield* whileLocked(path.join(folder, "ray.lock"), findOrStart(folder, options))
})

const findOrStart = Effect.fnUntraced(function*(folder: string, options: Options) {
  const record = path.join(folder, "ray.json")
  const recorded = yield* readRecord(record)
  if (Option.isSome(recorded)) {
    const head = recorded.value
    if (yield* answers(head)) {
      if (!isAlive(head.owner)) yield* Effect.addFinalizer(() => stop(head, record))
      return { address: head.address, token: Redacted.make(head.token), pid: head.head.pid, found: true }
    }
    yield* stop(head, record)
  }
  const ray = options.ray ?? (yield* findRay)
  const head = yield* Effect.acquireRelease(
    // A port that was free a moment ago may be taken by now: the next try has others.
    Effect.retry(start(ray, folder, options), { times: 2 }),
    (head) => stop(head, record)
  )
  writePrivately(record, Schema.encodeSync(HeadJson)(head))
  return { address: head.address, token: Redacted.make(head.token), pid: head.head.pid, found: false }
})

/**
 * A local head for as long as the layer lives.
 *
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<LocalRay, RayError> => Layer.effect(LocalRay, make(options))

/**
 * A client of the local head.
 *
 * @category layers
 */
export const layerCluster: Layer.Layer<RayCluster.RayCluster, RayError, LocalRay> = Layer.unwrap(
  Effect.map(LocalRay, (local) => RayCluster.layer({ address: local.address, token: local.token }))
)

const readRecord = (file: string): Effect.Effect<Option.Option<Head>> =>
  Effect.sync(() => fs.readFileSync(file, "utf8")).pipe(
    Effect.catchDefect(() => Effect.fail("no record" as const)),
    Effect.flatMap(Schema.decodeEffect(HeadJson)),
    Effect.option
  )

const ping = (head: { readonly address: string; readonly token: string }): Effect.Effect<string, RayError> =>
  RayCluster.check.pipe(
    Effect.provide(RayCluster.layer({ address: head.address, token: Redacted.make(head.token) }), { local: true })
  )

const answers = (head: Head): Effect.Effect<boolean> =>
  isAlive(head.head)
    ? ping(head).pipe(Effect.timeout("5 seconds"), Effect.as(true), Effect.catch(() => Effect.succeed(false)))
    : Effect.succeed(false)

const start = Effect.fnUntraced(function*(ray: string, folder: string, options: Options) {
  const [
    gcs,
    dashboard,
    client,
    nodeManager,
    objectManager,
    metrics,
    agentHttp,
    agentGrpc,
    runtimeEnvAgent,
    dashboardMetrics,
    autoscalerMetrics
  ] = yield* freePorts(11)
  const token = randomBytes(32).toString("hex")
  const tempDir = fs.mkdtempSync(path.join(os.tmpdir().length > maxTempDirLength ? "/tmp" : os.tmpdir(), "er-"))
  const log = path.join(folder, "ray.log")
  const output = fs.openSync(log, "w", 0o600)
  const child = spawn(ray, [
    "start",
    "--head",
    "--block",
    "--node-ip-address=127.0.0.1",
    `--port=${gcs}`,
    "--include-dashboard=true",
    "--dashboard-host=127.0.0.1",
    `--dashboard-port=${dashboard}`,
    `--ray-client-server-port=${client}`,
    `--node-manager-port=${nodeManager}`,
    `--object-manager-port=${objectManager}`,
    `--metrics-export-port=${metrics}`,
    `--dashboard-agent-listen-port=${agentHttp}`,
    `--dashboard-agent-grpc-port=${agentGrpc}`,
    `--runtime-env-agent-port=${runtimeEnvAgent}`,
    // Zero lets the system choose a port for each worker process.
    "--min-worker-port=0",
    "--max-worker-port=0",
    `--num-cpus=${options.cpus ?? Math.max(2, os.availableParallelism())}`,
    `--num-gpus=${options.gpus ?? 0}`,
    `--resources=${JSON.stringify(options.resources ?? {})}`,
    `--object-store-memory=${objectStoreBytes}`,
    `--temp-dir=${tempDir}`,
    "--disable-usage-stats"
  ], {
    // A group of its own, so that an interrupt from the terminal reaches us first and nothing outlives us.
    detached: true,
    stdio: ["ignore", output, output],
    env: {
      ...withoutRay(process.env),
      // Jobs find their `python` by the PATH: the one that Ray is installed in.
      PATH: [path.dirname(ray), process.env["PATH"] ?? ""].join(path.delimiter),
      RAY_AUTH_MODE: "token",
      RAY_AUTH_TOKEN: token,
      RAY_USAGE_STATS_ENABLED: "0",
      // Without this Ray puts the machine's own address in the place of 127.0.0.1 and listens to the world.
      RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER: "0",
      DASHBOARD_METRIC_PORT: String(dashboardMetrics),
      AUTOSCALER_METRIC_PORT: String(autoscalerMetrics),
      EFFECT_RAY_NODE: process.env["EFFECT_RAY_NODE"] ?? process.execPath
    }
  })
  fs.closeSync(output)
  let exit: string | undefined
  child.on("error", (error) => exit = error.message)
  child.on("exit", (code, signal) => exit ??= `it exited with ${signal ?? code}`)
  if (child.pid === undefined) {
    return yield* failed(`${ray} cannot be run`, "Check EFFECT_RAY_PYTHON, or install Ray: pip install 'ray[default]'.")
  }
  const head: Head = {
    address: `http://127.0.0.1:${dashboard}`,
    token,
    tempDir,
    head: processId(child.pid),
    owner: processId(process.pid)
  }
  const ready = Effect.suspend(() =>
    exit === undefined ? ping(head) : Effect.fail(failed(`${exit}: ${tail(log)}`, `Its log is ${log}.`))
  ).pipe(
    Effect.retry({ while: () => exit === undefined, schedule: Schedule.spaced("100 millis") }),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () => Effect.fail(failed("it did not answer in time", `Its log is ${log}.`))
    })
  )
  yield* ready.pipe(Effect.onExit((result) => result._tag === "Success" ? Effect.void : stop(head, undefined)))
  return head
})

/** A Ray that this process may itself live in must not reach into the new one. */
const withoutRay = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith("RAY_")))

const tail = (file: string): string => fs.readFileSync(file, "utf8").trim().split("\n").slice(-6).join("\n")

const stop = (head: Head, record: string | undefined): Effect.Effect<void> =>
  Effect.gen(function*() {
    yield* endGroup(head.head, raylet, stopTimeout)
    yield* Effect.sync(() => {
      if (record !== undefined) removeRecord(record, head)
      fs.rmSync(head.tempDir, { recursive: true, force: true })
    })
  }).pipe(Effect.uninterruptible)

/** Another process may have recorded a head of its own meanwhile. */
const removeRecord = (record: string, head: Head): void => {
  try {
    const current = Schema.decodeSync(HeadJson)(fs.readFileSync(record, "utf8"))
    if (same(current.head, head.head)) fs.rmSync(record, { force: true })
  } catch {
    // No record, or one that nobody can read: nothing of ours.
  }
}

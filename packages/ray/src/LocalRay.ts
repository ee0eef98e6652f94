/**
 * A Ray on this machine, for development, tests and demos.
 *
 * `layer` uses the head that is recorded in the state folder if it is alive, and otherwise starts one: every listener
 * on loopback, on its own ports and with its own token. Any number of processes may use a head. The head ends when its
 * last user leaves. A user that exits in order waits for that; after one that is killed, the head ends a few seconds
 * later.
 *
 * Several heads may run on one machine. A Ray that was started in another way is never touched.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
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
import { fileURLToPath } from "node:url"
import { cleanText } from "./internal/cleanText.ts"
import { freePorts } from "./internal/freePorts.ts"
import type { Keep } from "./internal/headKeeper.ts"
import { isHeadFolder, makeHeadFolder, rayIn, removeHeadFolder, temporaryIn } from "./internal/headFolder.ts"
import { addUser, hasUsers } from "./internal/headUsers.ts"
import {
  commandOf,
  hasMembers,
  isAlive,
  isElsewhere,
  isHere,
  killGroup,
  processId,
  signal
} from "./internal/processes.ts"
import { findRay } from "./internal/rayExecutable.ts"
import { claimFolder, createPrivately, whileLocked, writePrivately } from "./internal/stateFiles.ts"
import * as RayCluster from "./RayCluster.ts"
import { LocalRayFailed, RayError, UnsafeFolder } from "./RayError.ts"

/**
 * How long Ray may take to end after SIGTERM before its process group is killed. It takes up to 34 s.
 *
 * @category constants
 */
export const stopTimeout = Duration.seconds(45)

/** How long a new head may take until it accepts jobs. @category constants */
export const startTimeout = Duration.seconds(90)

/**
 * How long to wait for a head to have started before it is asked to end: a head that is asked while it starts takes
 * half a minute.
 */
const settleTimeout = Duration.seconds(10)

/** How long a recorded head that is alive may take to answer before it counts as broken. */
const answerTimeout = Duration.seconds(30)

/** How long killed processes may take to disappear. */
const killTimeout = Duration.seconds(5)

/** How long jobs may take to end before the head is ended anyway. */
const jobsTimeout = Duration.seconds(15)

/**
 * How long another process may take to start or stop a head before it counts as stuck: enough for one start that fails
 * and one that succeeds.
 *
 * @category constants
 */
export const lockTimeout = Duration.minutes(5)

/**
 * How long a leaving user waits for that process. If it takes longer, the head's keeper ends the head when no user is
 * left.
 */
const leaveTimeout = Duration.seconds(10)

/** How many characters of Ray's log an error has, from its end. */
const maxDetail = 2_000

/** The size of the object store, in bytes. It need not be large, because payloads do not use it. */
const objectStoreBytes = 256 * 1024 * 1024

/** How to reach a head. @category models */
export interface Located {
  /** The dashboard's URL. */
  readonly address: string
  /** The token that every request to the head must carry. */
  readonly token: Redacted.Redacted<string>
  /** The file that holds the token in its field `token`. Only this user can read it. */
  readonly tokenFile: string
  /** The folder of its logs, including the logs of handlers (`worker-*.out`). It is removed with the head. */
  readonly logs: string
  /** The id of the head's keeper, which leads its process group. */
  readonly pid: number
  /** Whether the head was found, not started. */
  readonly found: boolean
}

/** The head on this machine that this process uses. @category services */
export class LocalRay extends Context.Service<
  LocalRay,
  Located & {
    /**
     * Returns the current head. If it has died, finds the one that another process has started, or starts the next one.
     */
    readonly revive: Effect.Effect<Located, RayError>
    /** Returns the head that was found or started last. */
    readonly latest: Effect.Effect<Located>
  }
>()("@effect-ray/ray/LocalRay") {}

/**
 * The options of `layer`.
 *
 * @category models
 */
export interface Options {
  /** The state folder, in which the head is recorded. Default: `.effect-ray` in the working directory. */
  readonly stateFolder?: string
  /** How many CPUs Ray has to assign. Default: those of this machine, and at least 2. */
  readonly cpus?: number
  /** How many GPUs Ray has to assign. Default 0. */
  readonly gpus?: number
  /** The custom resources that Ray has to assign, by name. Default: none. */
  readonly resources?: Readonly<Record<string, number>>
  /** Environment variables for Ray's processes, such as its settings (`RAY_…`). Default: none. */
  readonly env?: Readonly<Record<string, string>>
  /**
   * The `ray` executable. Default: the one beside `EFFECT_RAY_PYTHON`, then the one in the nearest `.venv` here or in a
   * folder above, then the one on the PATH.
   */
  readonly ray?: string
}

const Head = Schema.Struct({
  /** Must be on loopback: the process at this address receives the worker's environment. */
  address: Schema.String.check(Schema.isPattern(/^http:\/\/127\.0\.0\.1:\d+$/)),
  token: Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)),
  /** The folder for all files that the head writes. */
  folder: Schema.String,
  /** The process that leads the head's process group. */
  keeper: Schema.Struct({
    pid: Schema.Int.check(Schema.isGreaterThan(1)),
    started: Schema.String,
    boot: Schema.String,
    namespace: Schema.String
  })
})
type Head = typeof Head.Type
const HeadJson = Schema.fromJsonString(Head)

const failed = (detail: string, fix: string) => new RayError({ reason: new LocalRayFailed({ detail, fix }) })

/**
 * Makes a state folder that only this user can access, and returns its absolute path. Fails with `UnsafeFolder` if
 * another user may have written in it: its files decide which processes are ended, which folders are deleted and where
 * files are written.
 *
 * @category constructors
 */
export const makeStateFolder = (folder: string): Effect.Effect<string, RayError> =>
  Effect.try({
    try: () => {
      const resolved = path.resolve(folder)
      claimFolder(resolved)
      return resolved
    },
    catch: (error) =>
      new RayError({
        reason: new UnsafeFolder({
          folder: path.resolve(folder),
          detail: error instanceof Error ? error.message : String(error)
        })
      })
  })

/**
 * Finds or starts the local head, and uses it until the scope closes. Fails with `UnsafeFolder` or `LocalRayFailed`.
 *
 * @category constructors
 */
export const make = Effect.fn("LocalRay.make")(function*(
  options: Options = {}
): Effect.fn.Return<LocalRay["Service"], RayError, Scope.Scope> {
  const stateFolder = yield* makeStateFolder(options.stateFolder ?? ".effect-ray")
  const lock = path.join(stateFolder, "ray.lock")
  const record = path.join(stateFolder, "ray.json")
  let latest: Located | undefined
  yield* Effect.acquireRelease(
    Effect.sync(() => addUser(stateFolder)),
    (user) => {
      const leave = Effect.sync(() => {
        fs.rmSync(user, { force: true })
        return hasUsers(stateFolder)
      })
      const stopUnused = Effect.flatMap(leave, (used) => used ? Effect.void : stopRecorded(record))
      return Effect.suspend(() =>
        // A process that never had a head has nothing to wait for.
        latest === undefined ? leave : Effect.catchTag(
          whileLocked(lock, leaveTimeout, stopUnused),
          "Held",
          () => leave
        )
      )
    }
  )
  const locate = whileLocked(lock, lockTimeout, findOrStart(stateFolder, record, options)).pipe(
    Effect.catchTag(
      "Held",
      ({ detail }) =>
        Effect.fail(failed(detail, "End that process; if it does not belong to effect-ray, remove that file."))
    )
  )
  const first = latest = yield* locate
  const revive = Effect.tap(locate, (located) =>
    Effect.sync(() => {
      latest = located
    }))
  return { ...first, revive, latest: Effect.sync(() => latest ?? first) }
})

const findOrStart = Effect.fnUntraced(function*(stateFolder: string, record: string, options: Options) {
  const recorded = yield* readRecord(record)
  if (Option.isSome(recorded)) {
    if (yield* answers(recorded.value)) return locationOf(recorded.value, record, true)
    yield* stop(recorded.value, record)
  }
  const ray = options.ray ?? (yield* findRay)
  // A port that was free may have been taken since. The next try uses other ports.
  return locationOf(yield* Effect.retry(start(ray, stateFolder, record, options), { times: 2 }), record, false)
})

const locationOf = (head: Head, record: string, found: boolean): Located => ({
  address: head.address,
  token: Redacted.make(head.token),
  tokenFile: record,
  logs: path.join(rayIn(head.folder), "session_latest", "logs"),
  pid: head.keeper.pid,
  found
})

/**
 * Provides a local head until the layer is released.
 *
 * @category layers
 */
export const layer = (options: Options = {}): Layer.Layer<LocalRay, RayError> => Layer.effect(LocalRay, make(options))

/**
 * A client of the local head. After the head has died, `revive` switches to the next one.
 *
 * @category layers
 */
export const layerCluster: Layer.Layer<RayCluster.RayCluster, RayError, LocalRay> = Layer.effect(
  RayCluster.RayCluster,
  Effect.gen(function*() {
    const local = yield* LocalRay
    const scope = yield* Effect.scope
    const clientOf = ({ address, token }: Located) =>
      Effect.map(
        Layer.buildWithScope(RayCluster.layer({ address, token }), scope),
        (context) => Context.get(context, RayCluster.RayCluster)
      )
    let current = yield* clientOf(local)
    const revive = Effect.gen(function*() {
      const located = yield* local.revive
      if (located.address === current.address) return
      current = yield* clientOf(located)
      const { address, logs, tokenFile } = located
      yield* Effect.annotateLogs(Effect.logInfo("the local Ray has died; using another one"), {
        address,
        tokenFile,
        logs
      })
    })
    return RayCluster.RayCluster.of({
      get address() {
        return current.address
      },
      revive,
      version: Effect.suspend(() => current.version),
      uploadPackage: (zip) => current.uploadPackage(zip),
      pinPackage: (uri) => current.pinPackage(uri),
      submit: (submission) => current.submit(submission),
      status: (id) => current.status(id),
      running: Effect.suspend(() => current.running),
      stop: (id) => current.stop(id),
      logs: (id) => current.logs(id),
      delete: (id) => current.delete(id)
    })
  })
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

/** Whether the head answers. If it is alive, it may be too busy to answer at once, and others may be using it. */
const answers = (head: Head): Effect.Effect<boolean> =>
  Effect.suspend((): Effect.Effect<string, unknown> => isKept(head) ? ping(head) : Effect.fail("gone")).pipe(
    Effect.retry({ while: () => isKept(head), schedule: Schedule.spaced("200 millis") }),
    Effect.timeout(answerTimeout),
    Effect.match({ onFailure: () => false, onSuccess: () => true })
  )

const keeperFile = fileURLToPath(
  new URL(`./internal/headKeeper${path.extname(fileURLToPath(import.meta.url))}`, import.meta.url)
)

const start = Effect.fnUntraced(function*(ray: string, stateFolder: string, record: string, options: Options) {
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
  const folder = makeHeadFolder(token)
  const log = logOf(stateFolder)
  const output = createPrivately(log)
  const args = [
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
    `--temp-dir=${rayIn(folder)}`,
    "--disable-usage-stats"
  ]
  const { bin, command, first } = withoutSpaces(ray, folder)
  const keep: Keep = {
    ray: command,
    args: [...first, ...args],
    stateFolder,
    record,
    folder,
    stopMillis: Duration.toMillis(stopTimeout)
  }
  const keeper = spawn(process.execPath, [keeperFile, JSON.stringify(keep)], {
    // Its own process group, so that an interrupt from the terminal reaches this process and not the head.
    detached: true,
    cwd: stateFolder,
    stdio: ["ignore", output, output],
    env: {
      ...allowed(process.env),
      // Jobs find `python` on the PATH: it must be the one in which Ray is installed.
      PATH: [bin, process.env["PATH"] ?? ""].join(path.delimiter),
      // Ray's processes leave folders behind, and so may handlers. They are removed with the head.
      TMPDIR: temporaryIn(folder),
      RAY_AUTH_MODE: "token",
      RAY_AUTH_TOKEN: token,
      RAY_USAGE_STATS_ENABLED: "0",
      // Without this setting Ray replaces 127.0.0.1 by the machine's address and listens on the network.
      RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER: "0",
      DASHBOARD_METRIC_PORT: String(dashboardMetrics),
      AUTOSCALER_METRIC_PORT: String(autoscalerMetrics),
      EFFECT_RAY_NODE: process.env["EFFECT_RAY_NODE"] ?? process.execPath,
      ...options.env
    }
  })
  fs.closeSync(output)
  keeper.unref()
  const head: Head = {
    address: `http://127.0.0.1:${dashboard}`,
    token,
    folder,
    keeper: processId(keeper.pid!)
  }
  const ended = Effect.sync(() => failed(`it ended: ${tail(log, token)}`, `Its log is ${log}.`))
  yield* Effect.suspend(() => isAlive(head.keeper) ? ping(head) : Effect.flatMap(ended, Effect.fail)).pipe(
    Effect.retry({ while: () => isAlive(head.keeper), schedule: Schedule.spaced("100 millis") }),
    Effect.catch(() => Effect.flatMap(ended, Effect.fail)),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () =>
        Effect.fail(failed(`it did not answer within ${Duration.toSeconds(startTimeout)} s`, `Its log is ${log}.`))
    }),
    Effect.onExit((exit) => exit._tag === "Success" ? Effect.void : stop(head, record))
  )
  writePrivately(record, Schema.encodeSync(HeadJson)(head))
  return head
})

/**
 * The variables of this process that the head, the gateway and every Python host see: those that programs need to run
 * and to install packages, and no secrets of the app. If this process itself runs in a Ray, that Ray's variables are
 * left out too.
 */
const allowed = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => allowedName.test(name)))

const allowedName =
  /^(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_.*|TZ|TMPDIR|TERM|SSL_CERT_.*|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|PIP_.*|XDG_CACHE_HOME|(HTTPS?|ALL|NO)_PROXY|(https?|all|no)_proxy|LD_LIBRARY_PATH|CUDA_.*|NVIDIA_.*)$/

/**
 * Ray uses the path of its Python in shell commands without quoting it. A path with a space is replaced by a link in
 * the head's folder.
 */
const withoutSpaces = (ray: string, folder: string) => {
  if (!/\s/.test(ray)) return { bin: path.dirname(ray), command: ray, first: [] }
  const link = path.join(folder, "venv")
  fs.symlinkSync(path.dirname(path.dirname(ray)), link)
  const bin = path.join(link, "bin")
  return { bin, command: path.join(bin, "python"), first: ["-m", "ray.scripts.scripts"] }
}

const logOf = (stateFolder: string): string => path.join(stateFolder, "ray.log")

/**
 * Whether the head has started: the last line that `ray start --block` then prints is in the log. Its dashboard answers
 * a few seconds earlier.
 */
const isStarted = (log: string): boolean =>
  !fs.existsSync(log) || fs.readFileSync(log, "utf8").includes("This command will now block")

const tail = (file: string, token: string): string =>
  cleanText(fs.readFileSync(file, "utf8"), token).trim().split("\n").slice(-6).join("\n").slice(-maxDetail)

/**
 * Whether the recorded keeper is running. Its number alone is not enough, because it may belong to another process by
 * now.
 */
const isKept = ({ folder, keeper, token }: Head): boolean => {
  if (!isAlive(keeper) || !isHeadFolder(folder, token)) return false
  const command = commandOf(keeper.pid)
  return command.includes("headKeeper") && command.includes(folder)
}

/**
 * Asks the keeper to end the head, and waits. Also kills what a killed keeper has left behind. Recorded processes and
 * folders are only touched if they are known to be this head's.
 */
const stop = (head: Head, record: string, goodbye: Effect.Effect<void> = Effect.void): Effect.Effect<void> =>
  Effect.gen(function*() {
    const { folder, keeper, token } = head
    if (isElsewhere(keeper)) return
    // Checked first: an unused keeper ends by itself and removes its folder, and its group may take a moment longer.
    const known = isKept(head) || (isHere(keeper) && isHeadFolder(folder, token))
    if (isKept(head)) yield* goodbye
    yield* whilst(() => isKept(head) && !isStarted(logOf(path.dirname(record))), Duration.millis(50), settleTimeout)
    if (isKept(head)) signal(keeper.pid, "SIGTERM")
    yield* whilst(() => known && isAlive(keeper), Duration.millis(100), Duration.sum(stopTimeout, Duration.seconds(5)))
    if (known) {
      killGroup(keeper.pid, folder)
      // A killed process listens until the kernel has removed it, and the caller may check the ports when this returns.
      yield* whilst(() => hasMembers(keeper.pid), Duration.millis(20), killTimeout)
    }
    fs.rmSync(record, { force: true })
    if (isHeadFolder(folder, token)) removeHeadFolder(folder)
  }).pipe(Effect.uninterruptible)

/**
 * Waits while the condition holds, up to the limit. It does not use a timeout: that would interrupt, which is not
 * possible in a finalizer.
 */
const whilst = (holds: () => boolean, every: Duration.Duration, limit: Duration.Duration): Effect.Effect<void> =>
  Effect.asVoid(Effect.repeat(Effect.sync(holds), {
    while: (holds) => holds,
    schedule: Schedule.upTo(Schedule.spaced(every), { duration: limit })
  }))

const stopRecorded = (record: string): Effect.Effect<void> =>
  Effect.flatMap(
    readRecord(record),
    Option.match({
      onNone: () => Effect.void,
      onSome: (head) => stop(head, record, endJobs(head))
    })
  )

/** Stops the running jobs: a head ends in two seconds without jobs, and in half a minute with one. */
const endJobs = (head: Head): Effect.Effect<void> =>
  Effect.gen(function*() {
    const cluster = yield* RayCluster.RayCluster
    for (const job of yield* cluster.running) yield* cluster.stop(job.submissionId)
    yield* Effect.repeat(cluster.running, {
      until: (jobs) => jobs.length === 0,
      schedule: Schedule.spaced("100 millis")
    })
  }).pipe(
    Effect.provide(RayCluster.layer({ address: head.address, token: Redacted.make(head.token) }), { local: true }),
    // In a separate fiber, because a finalizer cannot be interrupted. A head that does not answer is ended anyway.
    Effect.timeoutOption(jobsTimeout),
    Effect.forkDetach,
    Effect.flatMap(Fiber.await),
    Effect.asVoid
  )

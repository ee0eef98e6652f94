/**
 * Starts a deployment's gateway, or joins the one that another worker started.
 *
 * The registry's row is the lock. The worker that inserts an epoch chooses its secret, and every worker that reads the
 * row may continue the start, so a worker that dies halfway blocks no other. The gateway itself is a Ray Job. An epoch
 * whose job has ended is never used again: the next epoch takes its place.
 */
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { type GatewayAddress, type GatewayEntry, GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import * as Timer from "@effect-ray/core/Timer"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Bundle from "./Bundle.ts"
import * as Frame from "./Frame.ts"
import * as RayCluster from "./RayCluster.ts"
import { GatewayFailed, RayError } from "./RayError.ts"

/** How long a gateway may take from its submission until it has printed its address. @category constants */
export const startTimeout = Duration.minutes(2)

/** How many gateways in a row may fail to start before `join` fails. */
const maxFailedEpochs = 3

/** How many epochs may be taken by workers with another registry before `join` fails. */
const maxTakenEpochs = 1_000

/**
 * How long a row may have no job. After that, its worker is presumed dead and the worker that reads the row submits the
 * job.
 */
const abandonedAfter = Duration.seconds(10)

/** How long running calls may take to end when the job is stopped, in seconds. */
const drainSeconds = 10

/** How long Ray waits before it kills a stopped job, in seconds. Ray's default is 3. */
const stopWaitSeconds = drainSeconds + 10

/** How many characters of a failed gateway's log an error has, from its end. */
const maxDetail = 2_000

const folder = fileURLToPath(new URL("../gateway/", import.meta.url))

/** How a gateway is started, and where it listens. @category models */
export interface Options {
  /** The deployment. Its workers share one gateway. Letters, digits, `_` and `-`. */
  readonly deployment: string
  /** How long a gateway without any worker keeps running. Default 60 seconds. */
  readonly idle?: Duration.Duration
  /** How long calls wait for the first host of their pool before they go back with the obstacle. Default 10 seconds. */
  readonly wait?: Duration.Duration
  /**
   * The port that the gateway listens on, or the next one if an earlier gateway still has it. Default: any free port.
   */
  readonly port?: number
  /** The private IP address that the gateway listens on. Default: the address of its Ray node. */
  readonly bind?: string
  /** The `host:port` at which workers reach the gateway. Default: the address and port that it listens on. */
  readonly advertise?: string
}

/**
 * A gateway that has printed its address.
 *
 * @category models
 */
export interface Joined {
  /** Its row in the registry. */
  readonly entry: GatewayEntry
  /** Where it can be reached. */
  readonly address: GatewayAddress
}

const Discovery = Schema.fromJsonString(Schema.Struct({
  effect_ray_gateway: Schema.Literal(1),
  host: Schema.String,
  port: Schema.Int
}))
const decodeDiscovery = Schema.decodeUnknownOption(Discovery)

/** Returns the address from a job's log, if the gateway has printed it. */
const discover = (logs: string): Option.Option<GatewayAddress> => {
  for (const line of logs.split("\n")) {
    if (!line.includes(`"effect_ray_gateway"`)) continue
    const found = decodeDiscovery(line)
    if (Option.isSome(found)) return Option.some({ host: found.value.host, port: found.value.port })
  }
  return Option.none()
}

/** Returns the submission id of an epoch's job. @category formatting */
export const submissionId = (deployment: string, epoch: number): string => `effect-ray-gw-${deployment}-e${epoch}`

const failed = (entry: GatewayEntry, detail: string) =>
  new RayError({ reason: new GatewayFailed({ submissionId: entry.submissionId, detail }) })

const pythonFiles = (): Record<string, Bundle.File> => {
  const files: Record<string, Bundle.File> = {}
  for (const name of fs.readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const parts = name.split(path.sep)
    if (!name.endsWith(".py") || parts[0] === "tests" || parts[0]!.startsWith("test_") || name === "conftest.py") {
      continue
    }
    files[parts.join("/")] = { content: fs.readFileSync(path.join(folder, name)) }
  }
  return files
}

/** Converts to seconds. Infinity becomes a large number, because JSON has no infinity. */
const secondsOf = (duration: Duration.Duration): number => Timer.bounded(Duration.toMillis(duration)) / 1_000

const submit = Effect.fn("Gateway.submit")(function*(entry: GatewayEntry, options: Options) {
  const cluster = yield* RayCluster.RayCluster
  const config = {
    deployment: entry.deployment,
    epoch: entry.epoch,
    idleSeconds: secondsOf(options.idle ?? Duration.seconds(60)),
    waitSeconds: secondsOf(options.wait ?? Duration.seconds(10)),
    drainSeconds
  }
  const text = new TextEncoder()
  const zip = yield* Bundle.pack({
    ...pythonFiles(),
    "config.json": { content: text.encode(JSON.stringify(config)) },
    secret: { content: text.encode(Redacted.value(entry.secret)), mode: 0o600 }
  })
  yield* cluster.submit({
    submissionId: entry.submissionId,
    entrypoint: "exec python -m effect_ray_gateway",
    workingDir: yield* cluster.uploadPackage(zip),
    env: {
      RAY_JOB_STOP_WAIT_TIME_S: String(stopWaitSeconds),
      ...(options.port === undefined ? {} : { EFFECT_RAY_GATEWAY_PORT: String(options.port) }),
      ...(options.bind === undefined ? {} : { EFFECT_RAY_GATEWAY_BIND: options.bind }),
      ...(options.advertise === undefined ? {} : { EFFECT_RAY_GATEWAY_ADVERTISE: options.advertise })
    },
    metadata: { "effect-ray": "gateway", deployment: entry.deployment }
  })
})

/** Waits until the job has printed the address. */
const awaitAddress = Effect.fn("Gateway.awaitAddress")(function*(entry: GatewayEntry, options: Options) {
  const cluster = yield* RayCluster.RayCluster
  let missing = 0
  const look = Effect.gen(function*() {
    const logs = yield* cluster.logs(entry.submissionId).pipe(
      // Ray returns this error while it sets the job up.
      Effect.catchReason("RayError", "Unexpected", () => Effect.succeed(Option.none<string>()))
    )
    const address = Option.flatMap(logs, discover)
    if (Option.isSome(address)) return address
    const job = yield* cluster.status(entry.submissionId)
    if (Option.isSome(job) && RayCluster.isTerminal(job.value.status)) {
      // Ray's message contains the end of the log, except when the job ended successfully.
      const detail = job.value.status === "FAILED" ? job.value.message : Option.getOrElse(logs, () => job.value.message)
      return yield* failed(entry, detail.trim().slice(-maxDetail))
    }
    if (Option.isNone(job) && ++missing * lookMillis > Duration.toMillis(abandonedAfter)) {
      missing = 0
      // Another worker may have submitted it first.
      yield* submit(entry, options).pipe(Effect.catchReason("RayError", "AlreadyExists", () => Effect.void))
    }
    return Option.none<GatewayAddress>()
  })
  const address = yield* look.pipe(
    Effect.repeat({ until: Option.isSome, schedule: Schedule.spaced(lookMillis) }),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () =>
        Effect.fail(failed(entry, `it did not print its address within ${Duration.toSeconds(startTimeout)} s`))
    })
  )
  return yield* Effect.fromOption(address as Option.Option<GatewayAddress>).pipe(Effect.orDie)
})

const lookMillis = 100

/**
 * Returns a gateway whose epoch is later than `after`, and starts one if there is none.
 *
 * Fails with `GatewayFailed` if 3 gateways in a row do not start, with the cluster's `RayError`, or with the registry's
 * `BrokerError`.
 *
 * @category joining
 */
export const join = Effect.fn("Gateway.join")(function*(
  options: Options,
  after: number
): Effect.fn.Return<Joined, RayError | BrokerError, RayCluster.RayCluster | GatewayRegistry> {
  const registry = yield* GatewayRegistry
  const cluster = yield* RayCluster.RayCluster
  let dead = after
  let taken = 0
  for (let failures = 0;;) {
    const current = yield* registry.current(options.deployment, cluster.address)
    const usable = Option.filter(current, (entry) => entry.epoch > dead && entry.protocol === Frame.protocol)
    if (Option.isSome(usable) && Option.isSome(usable.value.address)) {
      return { entry: usable.value, address: usable.value.address.value }
    }
    const epoch = Math.max(dead, Option.match(current, { onNone: () => 0, onSome: (entry) => entry.epoch })) + 1
    const entry: GatewayEntry = Option.getOrElse(usable, () => ({
      deployment: options.deployment,
      cluster: cluster.address,
      epoch,
      submissionId: submissionId(options.deployment, epoch),
      protocol: Frame.protocol,
      secret: Redacted.make(randomBytes(32).toString("hex")),
      address: Option.none()
    }))
    if (Option.isNone(usable)) {
      if (!(yield* registry.open(entry))) continue
      const submitted = yield* Effect.result(submit(entry, options))
      if (submitted._tag === "Failure") {
        if (submitted.failure.reason._tag !== "AlreadyExists" || ++taken >= maxTakenEpochs) {
          return yield* submitted.failure
        }
        // Workers with another registry used this epoch: they have another database, or write the cluster's address
        // differently.
        dead = entry.epoch
        continue
      }
    }
    const address = yield* Effect.result(awaitAddress(entry, options))
    if (address._tag === "Success") {
      yield* registry.publish(entry, address.success)
      return { entry, address: address.success }
    }
    if (address.failure.reason._tag !== "GatewayFailed" || ++failures >= maxFailedEpochs) return yield* address.failure
    yield* Effect.logWarning("a gateway did not start", address.failure)
    // Its log is in the message. The job is deleted, so that a cluster on which no gateway starts does not fill up with
    // jobs.
    yield* Effect.ignore(cluster.delete(entry.submissionId))
    dead = entry.epoch
  }
})

/**
 * Whether an epoch's job has ended, or does not exist.
 *
 * @category joining
 */
export const isOver = (
  entry: Pick<GatewayEntry, "submissionId">
): Effect.Effect<boolean, RayError, RayCluster.RayCluster> =>
  Effect.gen(function*() {
    const job = yield* (yield* RayCluster.RayCluster).status(entry.submissionId)
    return Option.isNone(job) || RayCluster.isTerminal(job.value.status)
  })

/**
 * Starts a deployment's gateway, or joins the one that another worker started.
 *
 * The registry's row is the lock: whoever inserts an epoch chose its secret, and everybody who reads it may carry on with
 * starting it, so a worker that dies half way holds nobody up. The gateway itself is a Ray Job; an epoch whose job is
 * over is never used again, the next one takes its place.
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

/** How long a gateway may take from its submission until it can be reached. @category constants */
export const startTimeout = Duration.minutes(2)

/** So many gateways may fail in a row before that is an error. */
const maxFailedEpochs = 3

/** So many epochs may have been used by workers with another registry. */
const maxTakenEpochs = 1_000

/** A row without a job for so long was left behind by a worker that died: its reader submits the job. */
const abandonedAfter = Duration.seconds(10)

/** How long running calls may still end when the job is stopped, in seconds. */
const drainSeconds = 10

/** Ray kills a stopped job after 3 s unless told otherwise. In seconds. */
const stopWaitSeconds = drainSeconds + 10

/** The longest piece of a failed gateway's log in an error, in characters. */
const maxDetail = 2_000

const folder = fileURLToPath(new URL("../gateway/", import.meta.url))

/** How a gateway is started, and where it listens. @category models */
export interface Options {
  /** Workers of one deployment share a gateway. Letters, digits, `_` and `-`. */
  readonly deployment: string
  /** How long a gateway without any worker stays. Default 60 seconds. */
  readonly idle?: Duration.Duration
  /** How long calls wait for the first host of their pool before they go back with the reason. Default 10 seconds. */
  readonly wait?: Duration.Duration
  /** Where the gateway listens and how it is reached, where that is not the Ray node's own address and any free port. */
  readonly port?: number
  readonly bind?: string
  /** `host:port`, put in the place of its own address. */
  readonly advertise?: string
}

/**
 * A gateway that said where it can be reached.
 *
 * @category models
 */
export interface Joined {
  readonly entry: GatewayEntry
  readonly address: GatewayAddress
}

const Discovery = Schema.fromJsonString(Schema.Struct({
  effect_ray_gateway: Schema.Literal(1),
  host: Schema.String,
  port: Schema.Int
}))
const decodeDiscovery = Schema.decodeUnknownOption(Discovery)

/** The address in a job's log, once the gateway has printed its line. */
const discover = (logs: string): Option.Option<GatewayAddress> => {
  for (const line of logs.split("\n")) {
    if (!line.includes(`"effect_ray_gateway"`)) continue
    const found = decodeDiscovery(line)
    if (Option.isSome(found)) return Option.some({ host: found.value.host, port: found.value.port })
  }
  return Option.none()
}

/** The job's name. @category formatting */
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

/** JSON knows no infinity. */
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

/** The address, once the job printed it. */
const awaitAddress = Effect.fn("Gateway.awaitAddress")(function*(entry: GatewayEntry, options: Options) {
  const cluster = yield* RayCluster.RayCluster
  let missing = 0
  const look = Effect.gen(function*() {
    const logs = yield* cluster.logs(entry.submissionId).pipe(
      // Ray answers so while the job is being set up.
      Effect.catchReason("RayError", "Unexpected", () => Effect.succeed(Option.none<string>()))
    )
    const address = Option.flatMap(logs, discover)
    if (Option.isSome(address)) return address
    const job = yield* cluster.status(entry.submissionId)
    if (Option.isSome(job) && RayCluster.isTerminal(job.value.status)) {
      // Ray's message holds the end of the log, unless the job ended well.
      const detail = job.value.status === "FAILED" ? job.value.message : Option.getOrElse(logs, () => job.value.message)
      return yield* failed(entry, detail.trim().slice(-maxDetail))
    }
    if (Option.isNone(job) && ++missing * lookMillis > Duration.toMillis(abandonedAfter)) {
      missing = 0
      // Another reader of the row may be faster.
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
 * Answers a gateway of an epoch later than `after`, starting one if there is none.
 *
 * Fails with `GatewayFailed` when several in a row do not start.
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
        // Workers with another registry (another database, another way to write the cluster's address) were here.
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
    // Its log is in the message; a cluster on which none starts is not to fill up with them.
    yield* Effect.ignore(cluster.delete(entry.submissionId))
    dead = entry.epoch
  }
})

/**
 * Whether an epoch's job is over, or was never there.
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

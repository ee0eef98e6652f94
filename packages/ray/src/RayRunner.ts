/**
 * Runs attempts on Ray, through a connection to the gateway.
 *
 * When the layer is built, the worker is bundled and uploaded, and a gateway is started or joined. Attempts then run in
 * pools of hosts, one pool for each runtime and placement. A gateway that dies is replaced automatically: the attempts
 * that it had are lost at once, and those that it cannot have received wait for the next gateway.
 */
import type { BrokerError } from "@effect-ray/core/BrokerError"
import type { GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import * as Limits from "@effect-ray/core/Limits"
import { Ended } from "@effect-ray/core/Outcome"
import * as Runner from "@effect-ray/core/Runner"
import * as Timer from "@effect-ray/core/Timer"
import type { Worker } from "@effect-ray/core/Worker"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import { randomUUID } from "node:crypto"
import type * as Gateway from "./Gateway.ts"
import type { GatewayConnection, PoolState } from "./GatewayConnection.ts"
import type { Flight } from "./internal/flight.ts"
import { Flights } from "./internal/flights.ts"
import { makePackages } from "./internal/packages.ts"
import { RayPools } from "./internal/rayPools.ts"
import * as pythonSchemas from "./internal/pythonSchemas.ts"
import { connect, type GoneSignal, leave, makeGone, type Session } from "./internal/session.ts"
import * as RayCluster from "./RayCluster.ts"
import type { RayError } from "./RayError.ts"

/** How long an interrupted attempt may take to end by itself. @category constants */
export const defaultGrace = Duration.seconds(5)

/** The longest grace that a gateway accepts. @category constants */
export const maxGrace = Duration.hours(1)

/** How long the gateway keeps a worker that it cannot reach. @category constants */
export const defaultLease = Duration.seconds(30)

/** The longest lease that a gateway accepts. @category constants */
export const maxLease = Duration.hours(1)

/** How long after the grace an end is waited for. The gateway ends a host that has not answered 2 s after the grace. */
const confirmTimeout = Duration.seconds(3)

/**
 * How often packages are pinned. Ray keeps a package for ten minutes after that, and a pool may grow at any time.
 *
 * @category constants
 */
export const defaultPinInterval = Duration.minutes(4)

/**
 * How long attempts wait for a gateway before they go back to their queue, from which other workers can claim them.
 *
 * @category constants
 */
export const defaultGatewayPatience = Duration.seconds(15)

/** The worker that runs on the cluster, and how its gateway is shared and reached. @category models */
export interface Options extends Omit<Gateway.Options, "deployment"> {
  /** The worker whose tasks run on the cluster. */
  readonly worker: Worker
  /** The path of the worker module, whose default export is the worker. */
  readonly module: string
  /** The deployment. Its workers share one gateway. Letters, digits, `_` and `-`. Default `effect_ray`. */
  readonly deployment?: string
  /**
   * How long the gateway keeps a worker that it cannot reach. Then its attempts end. Default 30 seconds, at most 1
   * hour.
   */
  readonly lease?: Duration.Duration
  /**
   * How long an interrupted attempt may take to end by itself before its thread or process is ended. Default 5 seconds,
   * at most 1 hour.
   */
  readonly grace?: Duration.Duration
  /**
   * How often the worker's packages are pinned. Ray drops an unused package
   * `RAY_RUNTIME_ENV_TEMPORARY_REFERENCE_EXPIRATION_S` seconds after it was last pinned (10 minutes unless set).
   * Default 4 minutes.
   */
  readonly pinInterval?: Duration.Duration
  /** How long attempts wait for a gateway before they go back to their queue. Default 15 seconds. */
  readonly gatewayPatience?: Duration.Duration
  /** Called on each change of a pool of hosts, in addition to the log. For people and tests. Default: not called. */
  readonly onPoolState?: (state: PoolState) => void
}

/** What a test may access in a runner. @internal */
export interface Controls {
  /** Returns the current connection to the gateway, if there is one. */
  readonly connection: () => GatewayConnection | undefined
}

/**
 * Checks the options, and throws if one is wrong: that is a mistake in the program. Otherwise the gateway would close
 * the connection or accept no attempt.
 */
const check = (options: Options): void => {
  const refuse = (name: string, given: Duration.Duration, most: Duration.Duration) => {
    if (Duration.isLessThanOrEqualTo(given, most)) return
    throw new Error(
      `RayRunner.layer: ${name} is ${Duration.format(given)}: expected a duration of at most ${Duration.format(most)}`
    )
  }
  refuse("grace", options.grace ?? defaultGrace, maxGrace)
  refuse("lease", options.lease ?? defaultLease, maxLease)
}

const make = Effect.fnUntraced(function*(options: Options, controls?: (controls: Controls) => void) {
  check(options)
  const cluster = yield* RayCluster.RayCluster
  const limits = {
    maxResultBytes: yield* Limits.MaxResultBytes,
    maxPayloadBytes: yield* Limits.MaxPayloadBytes,
    graceMillis: Math.ceil(Duration.toMillis(options.grace ?? defaultGrace))
  }
  yield* RayCluster.check
  const unset = options.worker.env.filter((name) => process.env[name] === undefined)
  if (unset.length > 0) {
    yield* Effect.logWarning(
      `hosts will not see variables that Worker.make({ env }) names but this process does not have: ${unset.join(", ")}`
    )
  }
  const packages = yield* makePackages(options.worker, options.module)

  const pools = new RayPools(options.worker.tasks, { env: options.worker.env, limits, packageOf: packages.uri })
  const flights = new Flights({
    pools,
    maxPayloadBytes: limits.maxPayloadBytes,
    graceMillis: limits.graceMillis,
    patienceMillis: Duration.toMillis(options.gatewayPatience ?? defaultGatewayPatience)
  })

  const awaitEnd = (flight: Flight): Effect.Effect<Ended> =>
    Effect.callback<Ended>((resume) => flight.listen((ended) => resume(Effect.succeed(ended))))

  const stop = (flight: Flight): Effect.Effect<Ended> =>
    Effect.callback<Ended>((resume) => {
      const timer = setTimeout(() => {
        flights.discard(flight)
        resume(Effect.succeed(Ended.Interrupted({ confirmed: false })))
      }, Timer.bounded(limits.graceMillis + Duration.toMillis(confirmTimeout)))
      flight.listen((ended) => {
        clearTimeout(timer)
        resume(Effect.succeed(ended))
      })
      flights.cancel(flight)
    })

  const fly = (attempt: Runner.Attempt): Effect.Effect<Ended> =>
    Effect.suspend(() => {
      const flight = flights.start(attempt)
      return Effect.matchCauseEffect(Effect.interruptible(awaitEnd(flight)), {
        onSuccess: Effect.succeed,
        // It can only fail by being interrupted.
        onFailure: () => stop(flight)
      })
    })

  const flyPython = (attempt: Runner.Attempt): Effect.Effect<Ended> => {
    const { payload, task } = attempt
    const flight = Effect.flatMap(fly(attempt), (ended) => pythonSchemas.ofEnd(task, ended))
    // A payload that is too large is refused without parsing it.
    if (payload.length > limits.maxPayloadBytes) return flight
    return Effect.flatMap(
      pythonSchemas.ofPayload(task, payload),
      (misfit) => misfit === undefined ? flight : Effect.succeed(misfit)
    )
  }

  const run = (attempt: Runner.Attempt): Effect.Effect<Ended> =>
    Effect.uninterruptible(attempt.task.runtime === "python" ? flyPython(attempt) : fly(attempt))

  const runFork = Effect.runForkWith(yield* Effect.context<RayCluster.RayCluster>())
  const onPoolState = (state: PoolState): void => {
    options.onPoolState?.(state)
    flights.resize(state.ref, state.slots)
    runFork(Effect.logDebug("a pool of hosts", { state: state.state, slots: state.slots, detail: state.detail }))
    // The package may be missing.
    if (state.state === "failed") runFork(packages.keep)
  }

  const gateway: Gateway.Options = { deployment: "effect_ray", ...options }
  const connection = {
    id: randomUUID(),
    leaseSeconds: Duration.toSeconds(options.lease ?? defaultLease),
    maxPayloadBytes: limits.maxPayloadBytes,
    maxResultBytes: limits.maxResultBytes,
    onPoolState
  }

  const tellConnected = ({ epoch }: Session): Effect.Effect<void> =>
    Effect.annotateLogs(Effect.logInfo("connected to the gateway"), { cluster: cluster.address, epoch })

  /**
   * Returns the next session, after making sure that the packages are on the cluster. This comes before any host is
   * requested, because a node remembers for ten minutes an environment that it could not set up.
   */
  const next = Effect.fnUntraced(function*(gone: GoneSignal, after: number) {
    yield* cluster.revive
    const session = yield* connect(gateway, { ...connection, onGone: gone.tell }, after)
    yield* Effect.onError(packages.upload, () => leave(session.connection))
    return session
  })

  /** Keeps a session until its gateway is gone, then connects to the next gateway, and so on. */
  const keep = Effect.fnUntraced(function*(first: Session, gone: GoneSignal) {
    for (let current = first, signal = gone;;) {
      const detail = yield* signal.wait
      // Again, because it may have gone before it was adopted.
      flights.abandon()
      yield* Effect.annotateLogs(Effect.logWarning("the gateway is gone; starting another one"), { detail })
      const { epoch } = current
      const tried = Effect.suspend(() => {
        signal = makeGone(() => flights.abandon())
        return next(signal, epoch)
      })
      current = yield* tried.pipe(
        Effect.tapError((error) => Effect.sync(() => pools.close(`there is no gateway: ${error.message}`))),
        Effect.retry(Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("10 seconds")]))
      )
      flights.adopt(current)
      yield* tellConnected(current)
    }
  })

  const gone = makeGone(() => flights.abandon())
  const first = yield* connect(gateway, { ...connection, onGone: gone.tell }, 0)
  flights.adopt(first)
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      flights.close()
      return flights.current === undefined ? Effect.void : leave(flights.current.connection)
    })
  )
  yield* Effect.forkScoped(keep(first, gone))
  yield* packages.keep.pipe(
    Effect.repeat(Schedule.spaced(options.pinInterval ?? defaultPinInterval)),
    Effect.forkScoped
  )
  yield* tellConnected(first)
  controls?.({ connection: () => flights.current?.connection })

  const tasks = new Set(options.worker.tasks.map((task) => task._tag))
  return Runner.Runner.of({
    name: "ray",
    supports: (task) => tasks.has(task._tag),
    isolatesSuspects: () => true,
    pool: (task) => pools.of(task),
    listen: (hear) =>
      Effect.asVoid(Effect.acquireRelease(
        Effect.sync(() => pools.listen(hear)),
        (stop) => Effect.sync(stop)
      )),
    run,
    acknowledge: (attempts) => Effect.sync(() => flights.acknowledge(attempts))
  })
})

/**
 * The runner of a worker on the cluster. Fails with `BundleFailed`, `GatewayFailed`, or another error of the cluster or
 * the registry.
 *
 * @category layers
 */
export const layer = (
  options: Options
): Layer.Layer<Runner.Runner, RayError | BrokerError, RayCluster.RayCluster | GatewayRegistry> =>
  Layer.effect(Runner.Runner, make(options))

/** Like `layer`, with access for tests that disturb it. @internal */
export const layerControlled = (
  options: Options,
  controls: (controls: Controls) => void
): Layer.Layer<Runner.Runner, RayError | BrokerError, RayCluster.RayCluster | GatewayRegistry> =>
  Layer.effect(Runner.Runner, make(options, controls))

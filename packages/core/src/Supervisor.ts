/**
 * The part of a worker that claims, runs, renews, cancels and settles.
 *
 * Once claimed, only the supervisor moves an execution. Interrupting `run` drains:
 * nothing more is claimed, running attempts may finish within `drain`, and the
 * rest is handed back uncounted. A supervisor whose lease lapses abandons its
 * attempts, which have other owners by then, and begins again under a new id.
 */
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import * as Broker from "./Broker.ts"
import type { BrokerError } from "./BrokerError.ts"
import * as attempts from "./internal/attempts.ts"
import * as holds from "./internal/holds.ts"
import * as loops from "./internal/loops.ts"
import type { Host } from "./internal/run/host.ts"
import { persistently } from "./internal/persistently.ts"
import * as Shift from "./internal/shift.ts"
import * as Limits from "./Limits.ts"
import { Runner } from "./Runner.ts"
import { laneOf } from "./RunStore.ts"
import type { Worker } from "./Worker.ts"

/** How long a silent supervisor keeps its executions. @category constants */
export const defaultLease = Duration.seconds(30)

/** The shortest lease. A lease is renewed three times in its length. @category constants */
export const minLease = Duration.seconds(1)

/** How long running attempts may continue after an interruption. @category constants */
export const defaultDrain = Duration.seconds(30)

/** How long executions wait for a process that cannot be had. @category constants */
export const defaultUnschedulableAfter = Duration.minutes(10)

/** What a supervisor serves, how much at once, and how long it may take to stop. @category models */
export interface Options {
  /** The tasks and their handlers. */
  readonly worker: Worker
  /** The runs of the process, to serve too: see `RunHost.layerShared`. Default: none. */
  readonly runs?: Host | undefined
  /** The queues to serve. Default: all queues of the worker's tasks. */
  readonly queues?: ReadonlyArray<string>
  /**
   * The most attempts that run at once, at least 1. An attempt that waits for its pool's first process does not count
   * until its handler begins, which may exceed the limit by one for each pool.
   */
  readonly concurrency: number
  /**
   * How long after its last tick another supervisor takes over its executions. Default 30 seconds, at least `minLease`.
   */
  readonly lease?: Duration.Input
  /** How long running attempts may continue after an interruption. Default 30 seconds. */
  readonly drain?: Duration.Input
  /**
   * How long an execution waits while no process can be had for it, because no node can hold one or none starts. It
   * then fails with `Unschedulable` or `HostFailed`, unless another supervisor can run it. Default 10 minutes.
   */
  readonly unschedulableAfter?: Duration.Input
  /** Host and process id, for people. Default: the supervisor's id. */
  readonly label?: string
}

/**
 * Serves the worker's tasks until interrupted, then drains.
 *
 * Fails with `BrokerError` only before it has begun. Later it waits for a broker that does not answer.
 *
 * @category running
 */
export const run = (options: Options): Effect.Effect<never, BrokerError, Broker.Broker | Runner> =>
  Effect.flatMap(Limits.fault, (fault) => {
    check(options)
    if (fault !== undefined) throw new Error(`Supervisor.run: ${fault}`)
    let shifts = 0
    return Effect.forever(work(options, () => shifts++ === 0))
  })

/** Throws, because invalid options are an error in the program. */
const check = (options: Options): void => {
  const refuse = (name: keyof Options, what: string) => {
    throw new Error(`Supervisor.run: ${name} is ${Formatter.format(options[name])}: expected ${what}`)
  }
  const millis = (input: Duration.Input | undefined, otherwise: Duration.Duration) =>
    Option.match(Duration.fromInput(input ?? otherwise), { onNone: () => Number.NaN, onSome: Duration.toMillis })
  if (!(options.concurrency >= 1)) refuse("concurrency", "at least 1")
  const lease = millis(options.lease, defaultLease)
  if (!(lease >= Duration.toMillis(minLease) && Number.isFinite(lease))) {
    refuse("lease", `a duration from ${Duration.format(minLease)}`)
  }
  if (!(millis(options.drain, defaultDrain) >= 0)) refuse("drain", "a duration from 0")
  if (!(millis(options.unschedulableAfter, defaultUnschedulableAfter) >= 0)) {
    refuse("unschedulableAfter", "a duration from 0")
  }
}

const work = (options: Options, isFirst: () => boolean) =>
  Effect.scoped(Effect.gen(function*() {
    const shift = yield* begin(options, isFirst())
    yield* Effect.forkScoped(loops.settleLoop(shift))
    yield* Effect.forkScoped(loops.tickLoop(shift))
    yield* Effect.forkScoped(attempts.watchDeadlines(shift))
    yield* Effect.forkScoped(loops.listen(shift))
    yield* Effect.forkScoped(holds.tellLoop(shift))
    yield* loops.watchPools(shift)
    yield* Effect.forkScoped(loops.claimLoop(shift))
    yield* shift.runs?.serve(shift.id, () => shift.progressed.openUnsafe()) ?? Effect.void
    // The last finalizer to be added runs first: the loops still work while the shift drains.
    yield* Effect.addFinalizer(() => end(shift, options))
    yield* Deferred.await(shift.lapsed)
  }))

const begin = Effect.fnUntraced(function*(options: Options, isFirst: boolean): Effect.fn.Return<
  Shift.Shift,
  BrokerError,
  Broker.Broker | Runner | Scope
> {
  const broker = yield* Broker.Broker
  const runner = yield* Runner
  const served = options.worker.tasks.filter((task) =>
    options.queues === undefined || options.queues.includes(task.options.queue)
  )
  const supported = served.filter((task) => runner.supports(task))
  const id = SecureRandom.uuidV7Unsafe()
  const shift = Shift.make({
    id,
    broker,
    runs: options.runs,
    runner,
    context: yield* Effect.context<never>(),
    tasks: supported,
    concurrency: options.concurrency,
    lease: Duration.fromInputUnsafe(options.lease ?? defaultLease),
    patience: Duration.fromInputUnsafe(options.unschedulableAfter ?? defaultUnschedulableAfter)
  })
  const register = broker.register({
    supervisor: id,
    label: options.label ?? id,
    lanes: [...shift.lanes, ...(options.runs?.workflows() ?? []).map(laneOf)],
    lease: shift.lease
  })
  yield* (isFirst ? register : persistently("register", register))
  for (const task of served) {
    if (!runner.supports(task)) {
      yield* Effect.logWarning(`${task._tag} is not served: the ${runner.name} runner cannot run ${task.runtime} tasks`)
    }
  }
  yield* Effect.logInfo("supervisor started").pipe(Effect.annotateLogs({
    supervisor: id,
    runner: runner.name,
    concurrency: options.concurrency,
    queues: [...new Set(shift.lanes.map((lane) => lane.queue))],
    tasks: supported.map((task) => task._tag),
    workflows: options.runs?.workflows() ?? []
  }))
  return shift
})

/** Lets running attempts finish within the drain time, hands back the rest, and ends the lease. */
const end = Effect.fnUntraced(function*(shift: Shift.Shift, options: Options) {
  const hasLapsed = () => shift.phase === "lapsed"
  const abandoned = until(shift, () => shift.slots.inFlight() === 0, attempts.stopGrace)
  if (hasLapsed()) return yield* abandoned
  shift.phase = "draining"
  attempts.releaseBacklog(shift)
  shift.runs?.drain()
  if (!isIdle(shift)) {
    yield* Effect.annotateLogs(Effect.logInfo("draining"), {
      running: shift.slots.inFlight(),
      runs: shift.runs?.active() ?? 0
    })
  }
  const drain = Duration.fromInputUnsafe(options.drain ?? defaultDrain)
  yield* until(shift, () => isIdle(shift) || hasLapsed(), drain)
  if (hasLapsed()) return yield* abandoned
  for (const entry of shift.entries.values()) attempts.stop(shift, entry, "shutdown")
  shift.runs?.abandon()
  yield* until(
    shift,
    () => shift.entries.size === 0 || hasLapsed(),
    Duration.sum(attempts.stopGrace, Duration.seconds(1))
  )
  shift.phase = "leaving"
  yield* Effect.ignore(shift.broker.unregister(shift.id), { log: "Warn" })
  yield* Effect.logInfo("supervisor stopped").pipe(Effect.annotateLogs({ supervisor: shift.id }))
})

const isIdle = ({ runs, slots }: Shift.Shift): boolean => slots.inFlight() === 0 && (runs?.active() ?? 0) === 0

/**
 * Waits until the condition holds, up to the limit. It uses a separate fiber: a finalizer cannot be interrupted, so
 * a timeout inside it would wait for what it should end.
 */
const until = (shift: Shift.Shift, holds: () => boolean, limit: Duration.Duration): Effect.Effect<void> =>
  Effect.suspend(() => {
    const wait = Effect.gen(function*() {
      while (!holds()) {
        shift.progressed.closeUnsafe()
        yield* shift.progressed.await
      }
    })
    return Effect.asVoid(Fiber.await(shift.fork(Effect.timeoutOption(wait, limit))))
  })

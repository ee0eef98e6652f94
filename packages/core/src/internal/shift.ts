/**
 * One registration of a supervisor, and everything it owns.
 *
 * A shift begins when a supervisor registers and ends when it drains or lapses. A
 * lapsed supervisor is never revived, so the next shift has another id. Its state
 * changes synchronously on one thread: no change is ever visible half done.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import * as Semaphore from "effect/Semaphore"
import type * as Broker from "../Broker.ts"
import type * as Definition from "../Definition.ts"
import type { Runner } from "../Runner.ts"
import { type Due, makeDue } from "./due.ts"
import type { Entry, Share } from "./entry.ts"
import { type LineBudget, makeLineBudget } from "./lineBudget.ts"
import type { Host } from "./run/host.ts"
import { makeSettler, type Settler } from "./settler.ts"
import * as Shares from "./shares.ts"
import { makeSlots, nothing, type Slots, type Wanted } from "./slots.ts"

/** The most log lines in a minute about executions that are lost for good. */
export const maxLostLines = 60

export interface Shift {
  readonly id: Broker.SupervisorId
  readonly broker: Broker.Broker["Service"]
  /** The workflow runs that it serves besides tasks. */
  readonly runs: Host | undefined
  readonly runner: Runner["Service"]
  /** Tells whether spans are collected. */
  readonly context: Context.Context<never>
  readonly clock: Clock.Clock
  /** Runs attempts and the work beside them, which outlive the fiber that starts them. */
  readonly fork: <A>(effect: Effect.Effect<A>, options?: { readonly uninterruptible: true }) => Fiber.Fiber<A>
  readonly tasks: ReadonlyMap<string, Definition.Any>
  readonly lanes: ReadonlyArray<Broker.Lane>
  readonly shares: ReadonlyArray<Share>
  readonly lease: Duration.Duration
  /** How long executions wait for a process that cannot be had. */
  readonly patience: Duration.Duration
  readonly entries: Map<Broker.ExecutionId, Entry>
  readonly slots: Slots
  readonly settler: Settler
  readonly due: Due
  phase: "working" | "draining" | "leaving" | "lapsed"
  /** Opened to make the next tick happen at once. */
  readonly tickable: Latch.Latch
  /** Opened when an attempt ended or a settlement was recorded: the drain checks again. */
  readonly progressed: Latch.Latch
  /** Opened when something is held back, is so for another reason, or is no longer so. */
  readonly tellable: Latch.Latch
  /** Held while a hold is reported to the broker, so that reports arrive in order. */
  readonly telling: Semaphore.Semaphore
  /** Opened by the first tick. */
  readonly ticked: Latch.Latch
  /** The names of the paused lanes. */
  paused: ReadonlySet<string>
  /** The budget of log lines about executions that are lost for good. */
  readonly lostLines: LineBudget
  /** Whether a caller further up the stack is starting waiting executions. */
  starting: boolean
  readonly lapsed: Deferred.Deferred<void>
}

/** A shift with nothing in hand. */
export const make = (
  options: Pick<Shift, "id" | "broker" | "runs" | "runner" | "context" | "lease" | "patience"> & {
    readonly tasks: ReadonlyArray<Definition.Any>
    readonly concurrency: number
  }
): Shift => {
  const { broker, concurrency, context, id, lease, patience, runner, runs, tasks } = options
  const clock = Context.get(context, Clock.Clock)
  const now = () => millisOf(clock)
  const shares = Shares.make<Entry>(tasks, runner.pool)
  return {
    id,
    broker,
    runs,
    runner,
    context,
    clock,
    fork: Effect.runForkWith(context),
    tasks: new Map(tasks.map((task) => [task._tag, task])),
    lanes: shares.flatMap(({ lanes }) => lanes),
    shares,
    lease,
    patience,
    entries: new Map(),
    slots: makeSlots({ shares, concurrency, isolatesSuspects: runner.isolatesSuspects, now }),
    settler: makeSettler(),
    due: makeDue(now),
    phase: "working",
    tickable: Latch.makeUnsafe(false),
    progressed: Latch.makeUnsafe(false),
    tellable: Latch.makeUnsafe(false),
    telling: Semaphore.makeUnsafe(1),
    ticked: Latch.makeUnsafe(false),
    paused: new Set(),
    lostLines: makeLineBudget(maxLostLines, now),
    starting: false,
    lapsed: Deferred.makeUnsafe()
  }
}

const millisOf = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Process time, in milliseconds. It never jumps, so only compare it with other times from here. */
export const now = ({ clock }: Shift): number => millisOf(clock)

/** The share of a task's pool. */
export const shareOf = (shift: Shift, task: Definition.Any): Share =>
  shift.shares.find(({ tasks }) => tasks.includes(task))!

export const nameOfLane = ({ queue, task }: Broker.Lane): string => JSON.stringify([queue, task])

/** Whether nothing of a lane may start. */
export const isPaused = ({ paused }: Shift, lane: Broker.Lane): boolean =>
  paused.size > 0 && paused.has(nameOfLane(lane))

/** What to claim now; nothing if it is better to wait. */
export const wanted = (shift: Shift): Wanted =>
  shift.phase !== "working" || shift.settler.isFull() ? nothing : shift.slots.wanted((lane) => isPaused(shift, lane))

/** Makes the claim loop look again, if there is room. */
export const lookAgain = (shift: Shift): void => {
  if (wanted(shift).limit > 0) shift.due.open()
}

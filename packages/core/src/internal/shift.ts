/**
 * One supervisor lease and everything owned under it.
 *
 * A shift begins when a supervisor registers and ends when it drains or lapses; a
 * lapsed supervisor is never revived, so the next shift has another id. The fields
 * change synchronously, on one thread: no step of a state change can be seen half done.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"
import type { Span } from "effect/Tracer"
import type * as Broker from "../Broker.ts"
import { type Ended, type Stopped, suspectLosses } from "../Outcome.ts"
import type { Place, Runner } from "../Runner.ts"
import type * as Task from "../Task.ts"

/** How long an interrupted attempt may take to end before it is settled without it. Runners use a shorter grace of their own. */
export const stopGrace = Duration.seconds(10)

/** The most executions one claim takes. */
export const maxClaim = 500

/** The most attempts claimed ahead of a free slot: one claim's worth to work on, and one on its way. */
export const maxPrefetch = 2 * maxClaim

/** The most attempts that are started in one go. */
export const maxStarts = 100

/** Prefetch is allowed to hold what ended within this window, so long attempts never sit behind each other. */
export const prefetchWindowMillis = 100

/** A prefetched execution that did not get a slot within this time goes back to its queue. */
export const maxPrefetchAgeMillis = 1_000

/** Ended attempts that may wait for their settlement before claiming pauses. */
export const maxUnsettled = 5_000

/** How long others may pass a suspect that waits to run alone. Then nothing starts until it has. */
export const maxSuspectPatience = Duration.seconds(30)

/** How long an attempt that was lost before it started waits until it goes back to its queue. */
export const fruitlessPause = Duration.seconds(1)

/** How often deadlines are looked at while anything runs. */
export const deadlineResolution = Duration.millis(50)

/** An execution in this shift's hands. */
export interface Entry {
  readonly claimed: Broker.Claimed
  readonly task: Task.Any
  readonly claimedAtMillis: number
  phase: "waiting" | "running" | "settling"
  fiber: Fiber.Fiber<Ended> | undefined
  place: Place | undefined
  span: Span | undefined
  /** None until the runner says that the handler started: waiting for a host is not the task's time. */
  deadlineMillis: number | undefined
  stopped: Stopped | undefined
  /** When a stop that nobody answered is recorded as unconfirmed. */
  stopDeadlineMillis: number | undefined
}

export interface Shift {
  readonly id: Broker.SupervisorId
  readonly broker: Broker.Broker["Service"]
  readonly runner: Runner["Service"]
  /** What attempts and background work run with. */
  readonly context: Context.Context<never>
  readonly clock: Clock.Clock
  readonly tasks: ReadonlyMap<string, Task.Any>
  readonly lanes: ReadonlyArray<Broker.Lane>
  readonly concurrency: number
  readonly lease: Duration.Duration
  readonly entries: Map<Broker.ExecutionId, Entry>
  /** Claimed, and waiting for a slot, in order. */
  readonly backlog: Array<Entry>
  readonly settlements: Array<Broker.Settlement>
  /** Slots in use. An attempt that would not stop keeps its slot until it ends. */
  running: number
  /** How many running attempts are over for the broker, but would not stop. */
  abandoned: number
  /** A suspect that runs alone: nothing else starts until it has ended, or is over for the broker. */
  alone: Entry | undefined
  /** Waiting executions are being started further up the stack. */
  starting: boolean
  phase: "working" | "draining" | "lapsed"
  recentEnds: { windowStart: number; current: number; previous: number }
  /** Opened by whatever may make a claim worthwhile. */
  readonly claimable: Latch.Latch
  /** Opened by whatever should not wait for the next tick. */
  readonly tickable: Latch.Latch
  /** Opened when there is something to settle. */
  readonly settleable: Latch.Latch
  /** Opened when an attempt ended or a settlement was recorded: the drain looks again. */
  readonly progressed: Latch.Latch
  /** Something may be owned and not in hand: a claim's answer was lost, or a settlement was refused. */
  doubtful: boolean
  /** When the next execution of the lanes is due, by this process' clock. */
  nextDueMillis: number
  readonly lapsed: Deferred.Deferred<void>
}

/** A shift without anything in its hands. */
export const make = (
  options: Pick<Shift, "id" | "broker" | "runner" | "context" | "tasks" | "lanes" | "concurrency" | "lease">
): Shift => ({
  ...options,
  clock: Context.get(options.context, Clock.Clock),
  entries: new Map(),
  backlog: [],
  settlements: [],
  running: 0,
  abandoned: 0,
  alone: undefined,
  starting: false,
  phase: "working",
  recentEnds: { windowStart: 0, current: 0, previous: 0 },
  claimable: Latch.makeUnsafe(false),
  tickable: Latch.makeUnsafe(false),
  settleable: Latch.makeUnsafe(false),
  progressed: Latch.makeUnsafe(false),
  doubtful: false,
  nextDueMillis: Number.POSITIVE_INFINITY,
  lapsed: Deferred.makeUnsafe()
})

/** Process time, in milliseconds. It never jumps, so what it is compared with must come from here. */
export const now = (shift: Shift): number => Number(shift.clock.monotonicTimeNanosUnsafe()) / 1e6

/** Counts an end, for the prefetch. */
export const noteEnd = (shift: Shift): void => {
  rotate(shift)
  shift.recentEnds.current++
}

const rotate = (shift: Shift): void => {
  const { recentEnds } = shift
  const elapsed = now(shift) - recentEnds.windowStart
  if (elapsed < prefetchWindowMillis) return
  recentEnds.previous = elapsed < 2 * prefetchWindowMillis ? recentEnds.current : 0
  recentEnds.current = 0
  recentEnds.windowStart = now(shift)
}

/** How many executions this shift may hold that have not ended: its slots and what they will soon be free for. */
const window = (shift: Shift): number => {
  rotate(shift)
  const recent = Math.max(shift.recentEnds.previous, shift.recentEnds.current)
  return shift.concurrency + Math.min(maxPrefetch, recent)
}

/** A suspect runs alone, so that its next loss is its own, unless the runner sees to that. */
export const mustBeAlone = (shift: Shift, entry: Entry): boolean =>
  entry.claimed.losses >= suspectLosses && !shift.runner.isolatesSuspects

/** Whether a suspect has been passed for long enough. */
export const isImpatient = (shift: Shift, entry: Entry): boolean =>
  now(shift) - entry.claimedAtMillis >= Duration.toMillis(maxSuspectPatience)

/** Whether nothing starts because a suspect runs, or has waited long enough to do so. */
export const isHeldBySuspect = (shift: Shift): boolean =>
  shift.alone !== undefined || shift.backlog.some((entry) => mustBeAlone(shift, entry) && isImpatient(shift, entry))

/** How many executions to claim now; zero when it is better to wait. */
export const claimLimit = (shift: Shift): number => {
  if (shift.phase !== "working" || isHeldBySuspect(shift) || shift.settlements.length >= maxUnsettled) return 0
  const most = window(shift)
  const free = most - shift.running - shift.backlog.length
  // Under load a claim waits until it is worth its round trip; slots are fed from the backlog meanwhile.
  const worthwhile = shift.backlog.length === 0 ? 1 : Math.ceil(most / 4)
  return free >= worthwhile ? Math.min(free, maxClaim) : 0
}

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
import * as Semaphore from "effect/Semaphore"
import type { Span } from "effect/Tracer"
import type * as Broker from "../Broker.ts"
import { type Ended, type Stopped, suspectLosses } from "../Outcome.ts"
import type { Place, Runner } from "../Runner.ts"
import type * as Definition from "../Definition.ts"
import * as Shares from "./shares.ts"

/** How long an interrupted attempt may take to end before it is settled without it. Runners use a shorter grace of their own. */
export const stopGrace = Duration.seconds(10)

/** The most executions one claim takes. */
export const maxClaim = 500

/** The most attempts that are started in one go. */
export const maxStarts = 100

/** A prefetched execution that did not get a slot within this time goes back to its queue. */
export const maxPrefetchAgeMillis = 1_000

/** Ended attempts that may wait for their settlement before claiming pauses. */
export const maxUnsettled = 5_000

/** How long others may pass a suspect that waits to run alone. Then nothing starts until it has. */
export const maxSuspectPatience = Duration.seconds(30)

/** How long an attempt that did not start, and holds nothing back, waits until it goes back to its queue. */
export const fruitlessPause = Duration.seconds(1)

/** The most lines about executions that are lost for good, in a minute. */
export const maxLostLines = 60

/** How often deadlines are looked at while anything runs. */
export const deadlineResolution = Duration.millis(50)

/** What a shift has in hand at one pool. */
export type Share = Shares.Share<Entry>

/** An execution in this shift's hands. */
export interface Entry {
  readonly claimed: Broker.Claimed
  readonly task: Definition.Any
  readonly share: Share
  /** Entries are started in this order, as far as their pools allow. */
  readonly order: number
  readonly claimedAtMillis: number
  phase: "waiting" | "running" | "settling"
  /** Whether it has a slot of the shift. */
  slot: boolean
  fiber: Fiber.Fiber<Ended> | undefined
  place: Place | undefined
  span: Span | undefined
  /** None until the runner says that the handler started: waiting for a host is not the task's time. */
  deadlineMillis: number | undefined
  stopped: Stopped | undefined
  /** When a stop that nobody answered is recorded as unconfirmed. */
  stopDeadlineMillis: number | undefined
}

/** A settlement on its way to the broker. */
export interface Pending extends Broker.Settlement {
  /** How many characters its statement carries: the result, and the payload that moves to history with it. */
  readonly length: number
}

export interface Shift {
  readonly id: Broker.SupervisorId
  readonly broker: Broker.Broker["Service"]
  readonly runner: Runner["Service"]
  /** What attempts and background work run with. */
  readonly context: Context.Context<never>
  readonly clock: Clock.Clock
  readonly tasks: ReadonlyMap<string, Definition.Any>
  readonly lanes: ReadonlyArray<Broker.Lane>
  readonly shares: ReadonlyArray<Share>
  readonly concurrency: number
  readonly lease: Duration.Duration
  /** How long executions wait for a process that cannot be had. */
  readonly patience: Duration.Duration
  readonly entries: Map<Broker.ExecutionId, Entry>
  readonly settlements: Array<Pending>
  /** How many executions have been claimed. */
  claimed: number
  /** Slots in use. An attempt that would not stop keeps its slot until it ends. */
  running: number
  /** Attempts in flight at pools without a process. They have no slot until their handler begins. */
  tries: number
  /** How many running attempts are over for the broker, but would not stop. */
  abandoned: number
  /** A suspect that runs alone: nothing else starts until it has ended, or is over for the broker. */
  alone: Entry | undefined
  /** How many executions were told of as lost for good in this minute. */
  lostLines: { readonly minute: number; count: number }
  /** Waiting executions are being started further up the stack. */
  starting: boolean
  phase: "working" | "draining" | "lapsed"
  /** Opened by whatever may make a claim worthwhile. */
  readonly claimable: Latch.Latch
  /** Opened by whatever should not wait for the next tick. */
  readonly tickable: Latch.Latch
  /** Opened when there is something to settle. */
  readonly settleable: Latch.Latch
  /** Opened when an attempt ended or a settlement was recorded: the drain looks again. */
  readonly progressed: Latch.Latch
  /** Opened when something is held back, for another reason, or not any more. */
  readonly tellable: Latch.Latch
  /** Held while the broker is told of a hold: an older word must not come after a newer one. */
  readonly telling: Semaphore.Semaphore
  /** Something may be owned and not in hand: a claim's answer was lost, or a settlement was refused. */
  doubtful: boolean
  /** When the next execution of the lanes is due, by this process' clock. */
  nextDueMillis: number
  /** Opened by the first tick. */
  readonly ticked: Latch.Latch
  /** The names of the lanes that are paused. */
  paused: ReadonlySet<string>
  readonly lapsed: Deferred.Deferred<void>
}

/** A shift without anything in its hands. */
export const make = (
  options: Pick<Shift, "id" | "broker" | "runner" | "context" | "concurrency" | "lease" | "patience"> & {
    readonly tasks: ReadonlyArray<Definition.Any>
  }
): Shift => {
  const shares = Shares.make<Entry>(options.tasks, options.runner.pool)
  return {
    ...options,
    tasks: new Map(options.tasks.map((task) => [task._tag, task])),
    lanes: shares.flatMap(({ lanes }) => lanes),
    shares,
    clock: Context.get(options.context, Clock.Clock),
    entries: new Map(),
    settlements: [],
    claimed: 0,
    running: 0,
    tries: 0,
    abandoned: 0,
    alone: undefined,
    lostLines: { minute: 0, count: 0 },
    starting: false,
    phase: "working",
    claimable: Latch.makeUnsafe(false),
    tickable: Latch.makeUnsafe(false),
    settleable: Latch.makeUnsafe(false),
    progressed: Latch.makeUnsafe(false),
    tellable: Latch.makeUnsafe(false),
    telling: Semaphore.makeUnsafe(1),
    doubtful: false,
    nextDueMillis: Number.POSITIVE_INFINITY,
    ticked: Latch.makeUnsafe(false),
    paused: new Set(),
    lapsed: Deferred.makeUnsafe()
  }
}

/** Process time, in milliseconds. It never jumps, so what it is compared with must come from here. */
export const now = (shift: Shift): number => Number(shift.clock.monotonicTimeNanosUnsafe()) / 1e6

/** How many attempts have not ended. */
export const inFlight = ({ running, tries }: Shift): number => running + tries

/** The share of a task's pool. */
export const shareOf = (shift: Shift, task: Definition.Any): Share =>
  shift.shares.find(({ tasks }) => tasks.includes(task))!

/** A suspect runs alone, so that its next loss is its own, unless the runner sees to that. */
export const mustBeAlone = (shift: Shift, entry: Entry): boolean =>
  entry.claimed.losses >= suspectLosses && !shift.runner.isolatesSuspects(entry.task)

/** Whether a suspect has been passed for long enough. */
export const isImpatient = (shift: Shift, entry: Entry): boolean =>
  now(shift) - entry.claimedAtMillis >= Duration.toMillis(maxSuspectPatience)

/** Whether nothing starts because a suspect runs, or has waited long enough to do so. */
export const isHeldBySuspect = (shift: Shift): boolean =>
  shift.alone !== undefined ||
  shift.shares.some(({ backlog }) => backlog.some((entry) => mustBeAlone(shift, entry) && isImpatient(shift, entry)))

export const nameOfLane = ({ queue, task }: Broker.Lane): string => JSON.stringify([queue, task])

/** Whether nothing of a lane may be started. */
export const isPaused = ({ paused }: Shift, lane: Broker.Lane): boolean =>
  paused.size > 0 && paused.has(nameOfLane(lane))

/** What to claim now. */
export interface Wanted {
  readonly limit: number
  /** The lanes that there is room for, each with how many of it. */
  readonly lanes: ReadonlyArray<Broker.ClaimLane>
}

const nothing: Wanted = { limit: 0, lanes: [] }

/** How many executions to claim now, and of which lanes; none when it is better to wait. */
export const wanted = (shift: Shift): Wanted => {
  if (shift.phase !== "working" || isHeldBySuspect(shift) || shift.settlements.length >= maxUnsettled) return nothing
  const time = now(shift)
  let ahead = 0
  let waiting = 0
  for (const share of shift.shares) {
    ahead += Shares.prefetch(share, time)
    waiting += share.backlog.length
  }
  const window = shift.concurrency + Math.min(Shares.maxPrefetch, ahead)
  const free = Math.min(maxClaim, window - shift.running - waiting)
  if (free <= 0) return nothing
  const lanes: Array<Broker.ClaimLane> = []
  let limit = 0
  for (const share of shift.shares) {
    const most = Math.min(window, Shares.most(share, time))
    const room = Math.min(free, most - share.running - share.backlog.length)
    // Under load a claim waits until it is worth its round trip; slots are fed from the backlog meanwhile.
    if (room < (share.backlog.length === 0 ? 1 : Math.ceil(most / 4))) continue
    const open = share.lanes.filter((lane) => !isPaused(shift, lane))
    if (open.length === 0) continue
    for (const lane of open) lanes.push({ ...lane, limit: room })
    limit += room
  }
  return lanes.length === 0 ? nothing : { limit: Math.min(free, limit), lanes }
}

/** When the next try of a share that is held back becomes due; infinite when none will. */
export const nextTry = (shift: Shift): number => {
  const time = now(shift)
  return shift.shares.reduce(
    (next, { hold, pool, running }) =>
      hold === undefined || hold.nextTry <= time || running > 0 || pool.closed !== undefined
        ? next
        : Math.min(next, hold.nextTry),
    Number.POSITIVE_INFINITY
  )
}

/** Running attempts: starting, stopping, and noticing how they end. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Broker from "../Broker.ts"
import * as Envelope from "../Envelope.ts"
import * as Handler from "../Handler.ts"
import { Ended, type Obstacle, Outcome, reasonOf, type Stopped, suspectLosses } from "../Outcome.ts"
import { type Attempt, formatPlace } from "../Runner.ts"
import * as TaskError from "../TaskError.ts"
import { decide } from "./decide.ts"
import * as Shares from "./shares.ts"
import {
  deadlineResolution,
  type Entry,
  fruitlessPause,
  inFlight,
  isHeldBySuspect,
  isImpatient,
  isPaused,
  maxPrefetchAgeMillis,
  maxLostLines,
  maxStarts,
  mustBeAlone,
  now,
  type Share,
  shareOf,
  type Shift,
  stopGrace,
  wanted
} from "./shift.ts"
import { fromTraceparent, isTraced, toTraceparent } from "./trace.ts"

/** Takes what was claimed into the shift's hands. */
export const accept = (shift: Shift, claims: ReadonlyArray<Broker.Claimed>): void => {
  for (const claimed of claims) {
    // The same claim again: a crash of the store undid the first, whose attempt is here and goes on.
    if (shift.entries.get(claimed.id)?.claimed.fence === claimed.fence) continue
    const task = shift.tasks.get(claimed.task)
    if (task === undefined || claimed.format !== Envelope.format) {
      // Cannot happen by lanes; a hash collision or a hand-written row would bring an unknown task here.
      const detail = task === undefined
        ? `this worker has no task named ${claimed.task}`
        : Envelope.unknownFormat(claimed.format)
      const reason = new TaskError.Undecodable({ what: "payload", detail })
      settle(shift, claimed, Outcome.Failed({ result: Envelope.taskError(reason) }), Option.none())
      continue
    }
    const share = shareOf(shift, task)
    const entry: Entry = {
      claimed,
      task,
      share,
      order: shift.claimed++,
      claimedAtMillis: now(shift),
      phase: "waiting",
      slot: false,
      fiber: undefined,
      place: undefined,
      span: undefined,
      deadlineMillis: undefined,
      stopped: undefined,
      stopDeadlineMillis: undefined
    }
    shift.entries.set(claimed.id, entry)
    share.backlog.push(entry)
  }
}

/**
 * Fails what has waited for as long as it may, and returns how many that are. When a process can be had meanwhile, it goes
 * back instead.
 */
export const refuse = (shift: Shift, share: Shares.Share, claims: ReadonlyArray<Broker.Claimed>): number => {
  const reason = Option.flatMap(Option.fromUndefinedOr(share.hold), ({ obstacle }) => reasonOf(obstacle))
  const outcome = Option.match(reason, {
    onNone: () => Outcome.Returned(),
    onSome: (reason) => Outcome.Failed({ result: Envelope.taskError(reason) })
  })
  for (const claimed of claims) settle(shift, claimed, outcome, Option.none())
  return Option.isSome(reason) ? claims.length : 0
}

/** As `startWaiting`, once the fibers that are running have had their turn. */
export const startSoon = (shift: Shift): void => {
  Effect.runForkWith(shift.context)(Effect.andThen(Effect.yieldNow, Effect.sync(() => startWaiting(shift))))
}

/** Starts waiting executions while there are slots. */
export const startWaiting = (shift: Shift): void => {
  // An attempt that ends at once comes back here from within `start`; the loop that started it goes on.
  if (shift.phase !== "working" || shift.starting) return
  shift.starting = true
  for (const share of shift.shares) {
    for (let left = Shares.surplus(share, now(shift)); left > 0; left--) {
      release(shift, share.backlog.at(-1)!, "shutdown")
    }
  }
  for (let started = 0; shift.running < shift.concurrency && shift.alone === undefined; started++) {
    if (started === maxStarts) {
      // Attempts that end at once would hold up the loops, and with them the next claim and the settlements.
      startSoon(shift)
      break
    }
    const entry = next(shift)
    if (entry === undefined) break
    if (mustBeAlone(shift, entry)) shift.alone = entry
    start(shift, entry)
  }
  shift.starting = false
}

/** Takes the next execution to start from those that wait, in order, as far as its pool allows. */
const next = (shift: Shift): Entry | undefined => {
  const time = now(shift)
  let first: Entry | undefined
  for (const share of shift.shares) {
    if (share.backlog.length === 0 || !Shares.mayStart(share, time)) continue
    const entry = firstOf(shift, share)
    if (entry !== undefined && (first === undefined || entry.order < first.order)) first = entry
  }
  if (first !== undefined) first.share.backlog.splice(first.share.backlog.indexOf(first), 1)
  return first
}

/** The first of a share that may start now. Others pass a suspect that waits to run alone, for a while. */
const firstOf = (shift: Shift, { backlog }: Share): Entry | undefined => {
  for (const entry of backlog) {
    if (!mustBeAlone(shift, entry) || inFlight(shift) === 0) return entry
    if (isImpatient(shift, entry)) return undefined
  }
  return undefined
}

const start = (shift: Shift, entry: Entry): void => {
  entry.phase = "running"
  entry.share.running++
  // A try is over before its handler begins, or takes its slot then: pools without a process must not fill the slots.
  if (Shares.hasProcess(entry.share)) takeSlot(shift, entry)
  else shift.tries++
  // The runner says what may be interrupted, so that an interruption can still be answered by how the attempt ended.
  const fiber = Effect.runForkWith(shift.context)(traced(shift, entry), { uninterruptible: true })
  entry.fiber = fiber
  fiber.addObserver((exit) => onExit(shift, entry, exit))
}

const takeSlot = (shift: Shift, entry: Entry): void => {
  entry.slot = true
  shift.running++
}

/** Gives a try a slot, because it is one no longer. */
const promote = (shift: Shift, entry: Entry): void => {
  if (entry.slot) return
  shift.tries--
  takeSlot(shift, entry)
}

const traced = (shift: Shift, entry: Entry): Effect.Effect<Ended> => {
  const { claimed } = entry
  const attempt: Attempt = {
    execution: claimed.id,
    fence: claimed.fence,
    task: entry.task,
    queue: claimed.queue,
    priority: claimed.priority,
    attempt: claimed.attempt,
    payload: claimed.payload,
    traceparent: claimed.traceparent,
    suspect: entry.claimed.losses >= suspectLosses,
    onStart: (place) => {
      promote(shift, entry)
      entry.place = place
      entry.deadlineMillis ??= now(shift) + claimed.timeoutMillis
    }
  }
  // Where nobody collects spans this one is left out: the runner's own goes on from the enqueue.
  const parent = isTraced(shift.context) ? Option.flatMap(claimed.traceparent, fromTraceparent) : Option.none()
  if (Option.isNone(parent)) return shift.runner.run(attempt)
  const span = Effect.makeSpan("Supervisor.attempt", {
    parent: parent.value,
    kind: "consumer",
    attributes: {
      "effect_ray.task": claimed.task,
      "effect_ray.queue": claimed.queue,
      "effect_ray.execution": claimed.id,
      "effect_ray.attempt": claimed.attempt,
      "effect_ray.fence": claimed.fence,
      "effect_ray.waited_ms": claimed.waitedMillis,
      "effect_ray.runner": shift.runner.name
    }
  })
  return Effect.flatMap(span, (span) => {
    // Ended when the outcome is recorded: the span reaches from the claim to the settlement.
    entry.span = span
    return Effect.withParentSpan(
      shift.runner.run({ ...attempt, traceparent: Option.some(toTraceparent(span)) }),
      span,
      { captureStackTrace: false }
    )
  })
}

/** Ends an attempt's span with what was recorded. */
export const endSpan = (shift: Shift, entry: Entry, recorded: string): void => {
  if (entry.span === undefined) return
  entry.span.attribute("effect_ray.outcome", recorded)
  if (entry.place !== undefined) entry.span.attribute("effect_ray.place", formatPlace(entry.place))
  entry.span.end(shift.clock.currentTimeNanosUnsafe(), Exit.void)
}

const onExit = (shift: Shift, entry: Entry, exit: Exit.Exit<Ended>): void => {
  entry.share.running--
  if (shift.alone === entry) shift.alone = undefined
  if (entry.slot) {
    shift.running--
    Shares.noteEnd(entry.share, now(shift))
  } else shift.tries--
  if (entry.phase === "settling" || shift.phase === "lapsed") {
    // Settled without it, or owned by others: nobody will ask for its end.
    if (entry.phase === "settling") shift.abandoned--
    forget(shift, [entry])
  } else conclude(shift, entry, endedOf(shift, entry, exit))
  startWaiting(shift)
  if (wanted(shift).limit > 0) shift.claimable.openUnsafe()
  shift.progressed.openUnsafe()
}

/** Tells the runner that nobody will ask for these ends. */
const forget = (shift: Shift, entries: ReadonlyArray<Entry>): void => {
  const ends = entries.map(({ claimed }) => ({ execution: claimed.id, fence: claimed.fence }))
  Effect.runForkWith(shift.context)(shift.runner.acknowledge(ends))
}

const endedOf = (shift: Shift, { claimed, stopped }: Entry, exit: Exit.Exit<Ended>): Ended =>
  Handler.endOf(exit, stopped !== undefined, (line) => {
    const about = { task: claimed.task, execution: claimed.id, attempt: claimed.attempt }
    Effect.runForkWith(shift.context)(Effect.annotateLogs(line, about))
  })

/** Decides about an end and hands the outcome to the settler. */
const conclude = (shift: Shift, entry: Entry, ended: Ended): void => {
  entry.phase = "settling"
  if (ended._tag === "NotStarted") holdBack(shift, entry.share, ended.obstacle)
  const place = Option.map(Option.fromUndefinedOr(entry.place), formatPlace)
  const outcome = decide(shift, entry, ended)
  if (!Effect.isEffect(outcome) && outcome._tag === "Lost" && outcome.final) tellLost(shift, entry, ended)
  const hand = (outcome: Outcome) => settle(shift, entry.claimed, outcome, place)
  if (!Effect.isEffect(outcome)) {
    if (!isFruitless(entry, outcome)) return hand(outcome)
    // Nothing else bounds how often this can happen: hosts that cannot start would be asked for without a pause.
    return void Effect.runForkWith(shift.context)(
      Effect.andThen(Effect.sleep(fruitlessPause), Effect.sync(() => hand(outcome)))
    )
  }
  Effect.runForkWith(shift.context)(Effect.map(outcome, hand))
}

/** One line for each execution that no attempt follows for, as failed ones have it, but not for each of thousands. */
const tellLost = (shift: Shift, { claimed }: Entry, ended: Ended): void => {
  const minute = Math.floor(now(shift) / 60_000)
  if (shift.lostLines.minute !== minute) shift.lostLines = { minute, count: 0 }
  const count = ++shift.lostLines.count
  if (count > maxLostLines + 1) return
  const words = claimed.atMostOnce
    ? "an execution is lost, because it must not run twice"
    : "an execution is quarantined, because its attempts took their processes down"
  const line = count > maxLostLines
    ? Effect.logWarning(`more than ${maxLostLines} executions were lost in this minute: the others are not told of`)
    : Effect.annotateLogs(Effect.logWarning(words), {
      task: claimed.task,
      execution: claimed.id,
      losses: claimed.losses + (ended._tag === "Lost" ? 1 : 0),
      reason: ended._tag === "Lost" ? TaskError.describe(ended.reason) : "its worker shut down while it ran"
    })
  Effect.runForkWith(shift.context)(line)
}

/** Given back by the runner without having started, and neither held against the execution nor held back. */
const isFruitless = (entry: Entry, outcome: Outcome): boolean =>
  entry.place === undefined && entry.stopped === undefined && Shares.obstacleOf(entry.share) === undefined &&
  (outcome._tag === "Returned" || (outcome._tag === "Lost" && !outcome.counted))

const holdBack = (shift: Shift, share: Shares.Share, obstacle: Obstacle): void => {
  Shares.holdBack(share, obstacle, now(shift))
  // A process may have come up while the attempt was on its way back.
  Shares.look(share)
  shift.tellable.openUnsafe()
}

/** Takes up what the runner's pools have become. */
export const lookAtPools = (shift: Shift): void => {
  for (const share of shift.shares) Shares.look(share)
  shift.tellable.openUnsafe()
  startWaiting(shift)
  if (wanted(shift).limit > 0) shift.claimable.openUnsafe()
}

const settle = (
  shift: Shift,
  claimed: Broker.Claimed,
  outcome: Outcome,
  runnerRef: Option.Option<string>
): void => {
  const length = claimed.payload.length + ("result" in outcome ? outcome.result.length : 0)
  shift.settlements.push({ id: claimed.id, fence: claimed.fence, outcome, runnerRef, length })
  shift.settleable.openUnsafe()
}

/** Asks a running attempt to end. What it answers, or that it does not, becomes its outcome. */
export const stop = (shift: Shift, entry: Entry, why: Stopped): void => {
  if (entry.phase === "settling" || entry.stopped !== undefined) return
  if (entry.phase === "waiting") return release(shift, entry, why)
  entry.stopped = why
  entry.stopDeadlineMillis = now(shift) + Duration.toMillis(stopGrace)
  entry.fiber?.interruptUnsafe()
}

/** Gives back what never started. */
const release = (shift: Shift, entry: Entry, why: Stopped): void => {
  const { backlog } = entry.share
  const index = backlog.indexOf(entry)
  if (index >= 0) backlog.splice(index, 1)
  entry.phase = "settling"
  settle(
    shift,
    entry.claimed,
    why === "cancel" ? Outcome.Cancelled({ confirmed: true }) : Outcome.Returned(),
    Option.none()
  )
}

/** Gives back everything that waits for a slot. */
export const releaseBacklog = (shift: Shift): void => {
  for (const { backlog } of shift.shares) {
    while (backlog.length > 0) release(shift, backlog[0]!, "shutdown")
  }
}

/** Gives back what waits for a slot and is of a lane that is paused. */
export const releasePaused = (shift: Shift): void => {
  for (const { backlog } of shift.shares) {
    for (const entry of backlog.filter(({ claimed }) => isPaused(shift, claimed))) release(shift, entry, "shutdown")
  }
}

/** Interrupts everything without a word to the broker: its executions have other owners. */
export const abandonAll = (shift: Shift): void => {
  shift.phase = "lapsed"
  for (const { backlog } of shift.shares) backlog.length = 0
  shift.settlements.length = 0
  // Those that run are forgotten as they end.
  forget(shift, Array.from(shift.entries.values()).filter((entry) => entry.phase === "settling"))
  for (const entry of shift.entries.values()) {
    endSpan(shift, entry, "LeaseLost")
    entry.fiber?.interruptUnsafe()
  }
}

/** Ends attempts that are over their time, and settles those that would not end. */
export const watchDeadlines = (shift: Shift): Effect.Effect<never> =>
  Effect.forever(Effect.andThen(Effect.sleep(deadlineResolution), Effect.sync(() => checkDeadlines(shift))))

const checkDeadlines = (shift: Shift): void => {
  const time = now(shift)
  const held = shift.running >= shift.concurrency || isHeldBySuspect(shift)
  for (const entry of shift.entries.values()) {
    if (entry.phase === "running") checkRunning(shift, entry, time)
    else if (
      (held || !Shares.mayStart(entry.share, time)) && entry.phase === "waiting" &&
      time - entry.claimedAtMillis > maxPrefetchAgeMillis
    ) {
      // Another worker may have a slot for it. A suspect has waited for its turn and keeps it.
      if (!mustBeAlone(shift, entry)) release(shift, entry, "shutdown")
    }
  }
}

const checkRunning = (shift: Shift, entry: Entry, time: number): void => {
  if (entry.stopDeadlineMillis !== undefined) {
    if (time < entry.stopDeadlineMillis) return
    // It would not stop: the row must not wait for it, but its slot stays taken.
    promote(shift, entry)
    shift.abandoned++
    tellAbandoned(shift, entry)
    conclude(shift, entry, Ended.Interrupted({ confirmed: false }))
    if (shift.alone !== entry) return
    // Others cannot wait for what may never end.
    shift.alone = undefined
    startWaiting(shift)
  } else if (entry.deadlineMillis !== undefined && time >= entry.deadlineMillis) {
    stop(shift, entry, "timeout")
  }
}

const tellAbandoned = (shift: Shift, entry: Entry): void => {
  const about = { task: entry.claimed.task, execution: entry.claimed.id, abandoned: shift.abandoned }
  const log = shift.abandoned >= shift.concurrency
    ? Effect.logError("every slot is held by an attempt that will not stop: restart this worker")
    : Effect.logWarning("an attempt will not stop; its slot stays taken until it does")
  Effect.runForkWith(shift.context)(Effect.annotateLogs(log, about))
}

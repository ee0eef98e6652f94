/** Running attempts: starting, stopping, and noticing how they end. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Broker from "../Broker.ts"
import * as Envelope from "../Envelope.ts"
import * as Handler from "../Handler.ts"
import { Ended, type Obstacle, Outcome, reasonOf, type Stopped } from "../Outcome.ts"
import { type Attempt, formatPlace } from "../Runner.ts"
import * as TaskError from "../TaskError.ts"
import { isFailure, outcomeOf, outcomeOfFailure } from "./decide.ts"
import * as Entry from "./entry.ts"
import * as Shares from "./shares.ts"
import { isPaused, lookAgain, maxLostLines, now, shareOf, type Shift } from "./shift.ts"
import { fromTraceparent, isTraced, toTraceparent } from "./trace.ts"

/** How long an interrupted attempt may take to end before it is settled without it. Runners use a shorter grace of their own. */
export const stopGrace = Duration.seconds(10)

/** The most attempts that are started in one go. */
export const maxStarts = 100

/** How long an attempt that did not start, and holds nothing back, waits until it goes back to its queue. */
export const fruitlessPause = Duration.seconds(1)

/** How often deadlines are looked at while anything runs. */
export const deadlineResolution = Duration.millis(50)

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
    const entry = Entry.make({ claimed, task, share: shareOf(shift, task), claimedAtMillis: now(shift) })
    shift.entries.set(claimed.id, entry)
    shift.slots.admit(entry)
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
  shift.fork(Effect.andThen(Effect.yieldNow, Effect.sync(() => startWaiting(shift))))
}

/** Starts waiting executions while there are slots. */
export const startWaiting = (shift: Shift): void => {
  // An attempt that ends at once comes back here from within `start`; the loop that started it goes on.
  if (shift.phase !== "working" || shift.starting) return
  shift.starting = true
  for (const entry of shift.slots.surplus()) release(shift, entry, "shutdown")
  for (let started = 0;; started++) {
    if (started === maxStarts) {
      // Attempts that end at once would hold up the loops, and with them the next claim and the settlements.
      startSoon(shift)
      break
    }
    const entry = shift.slots.take()
    if (entry === undefined) break
    start(shift, entry)
  }
  shift.starting = false
}

const start = (shift: Shift, entry: Entry.Entry): void => {
  entry.phase = "running"
  // The runner says what may be interrupted, so that an interruption can still be answered by how the attempt ended.
  const fiber = shift.fork(traced(shift, entry), { uninterruptible: true })
  entry.fiber = fiber
  fiber.addObserver((exit) => onExit(shift, entry, exit))
}

const traced = (shift: Shift, entry: Entry.Entry): Effect.Effect<Ended> => {
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
    suspect: Entry.isSuspect(entry),
    onStart: (place) => {
      shift.slots.begin(entry)
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
export const endSpan = (shift: Shift, entry: Entry.Entry, recorded: string): void => {
  if (entry.span === undefined) return
  entry.span.attribute("effect_ray.outcome", recorded)
  if (entry.place !== undefined) entry.span.attribute("effect_ray.place", formatPlace(entry.place))
  entry.span.end(shift.clock.currentTimeNanosUnsafe(), Exit.void)
}

const onExit = (shift: Shift, entry: Entry.Entry, exit: Exit.Exit<Ended>): void => {
  const isAbandoned = shift.slots.isAbandoned(entry)
  shift.slots.end(entry)
  // Settled without it, or owned by others.
  if (isAbandoned || shift.phase === "lapsed") forget(shift, [entry])
  else conclude(shift, entry, endedOf(shift, entry, exit))
  startWaiting(shift)
  lookAgain(shift)
  shift.progressed.openUnsafe()
}

/** Tells the runner that nobody will ask for these ends. */
const forget = (shift: Shift, entries: ReadonlyArray<Entry.Entry>): void => {
  const ends = entries.map(({ claimed }) => ({ execution: claimed.id, fence: claimed.fence }))
  shift.fork(shift.runner.acknowledge(ends))
}

const endedOf = (shift: Shift, { claimed, stopped }: Entry.Entry, exit: Exit.Exit<Ended>): Ended =>
  Handler.endOf(exit, stopped !== undefined, (line) => {
    const about = { task: claimed.task, execution: claimed.id, attempt: claimed.attempt }
    shift.fork(Effect.annotateLogs(line, about))
  })

/** Decides about an end and hands the outcome to the settler. */
const conclude = (shift: Shift, entry: Entry.Entry, ended: Ended): void => {
  entry.phase = "settling"
  if (ended._tag === "NotStarted") holdBack(shift, entry.share, ended.obstacle)
  const place = Option.map(Option.fromUndefinedOr(entry.place), formatPlace)
  const hand = (outcome: Outcome) => settle(shift, entry.claimed, outcome, place)
  if (isFailure(entry, ended)) return void shift.fork(Effect.map(outcomeOfFailure(shift, entry, ended), hand))
  const outcome = outcomeOf(entry, ended)
  if (outcome._tag === "Lost" && outcome.final) tellLost(shift, entry, ended)
  if (!isFruitless(entry, outcome)) return hand(outcome)
  // Nothing else bounds how often this can happen: hosts that cannot start would be asked for without a pause.
  shift.fork(Effect.andThen(Effect.sleep(fruitlessPause), Effect.sync(() => hand(outcome))))
}

/** One line for each execution that no attempt follows for, as failed ones have it, but not for each of thousands. */
const tellLost = (shift: Shift, { claimed }: Entry.Entry, ended: Ended): void => {
  const spent = shift.lostLines.spend()
  if (spent === "none") return
  const words = claimed.atMostOnce
    ? "an execution is lost, because it must not run twice"
    : "an execution is quarantined, because its attempts took their processes down"
  const line = spent === "rest"
    ? Effect.logWarning(`more than ${maxLostLines} executions were lost in this minute: the others are not told of`)
    : Effect.annotateLogs(Effect.logWarning(words), {
      task: claimed.task,
      execution: claimed.id,
      losses: claimed.losses + (ended._tag === "Lost" ? 1 : 0),
      reason: ended._tag === "Lost" ? TaskError.describe(ended.reason) : "its worker shut down while it ran"
    })
  shift.fork(line)
}

/** Given back by the runner without having started, and neither held against the execution nor held back. */
const isFruitless = (entry: Entry.Entry, outcome: Outcome): boolean =>
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
  lookAgain(shift)
}

const settle = (
  shift: Shift,
  claimed: Broker.Claimed,
  outcome: Outcome,
  runnerRef: Option.Option<string>
): void => {
  const length = claimed.payload.length + ("result" in outcome ? outcome.result.length : 0)
  shift.settler.add([{ id: claimed.id, fence: claimed.fence, outcome, runnerRef, length }])
}

/** Asks a running attempt to end. What it answers, or that it does not, becomes its outcome. */
export const stop = (shift: Shift, entry: Entry.Entry, why: Stopped): void => {
  if (entry.phase === "settling" || entry.stopped !== undefined) return
  if (entry.phase === "waiting") return release(shift, entry, why)
  entry.stopped = why
  entry.stopDeadlineMillis = now(shift) + Duration.toMillis(stopGrace)
  entry.fiber?.interruptUnsafe()
}

/** Gives back what never started. */
const release = (shift: Shift, entry: Entry.Entry, why: Stopped): void => {
  shift.slots.withdraw(entry)
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
  for (const entry of shift.slots.waiting()) release(shift, entry, "shutdown")
}

/** Gives back what waits for a slot and is of a lane that is paused. */
export const releasePaused = (shift: Shift): void => {
  for (const entry of shift.slots.waiting()) {
    if (isPaused(shift, entry.claimed)) release(shift, entry, "shutdown")
  }
}

/** Interrupts everything without a word to the broker: its executions have other owners. */
export const abandonAll = (shift: Shift): void => {
  shift.phase = "lapsed"
  for (const entry of shift.slots.waiting()) shift.slots.withdraw(entry)
  shift.settler.clear()
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
  for (const entry of shift.entries.values()) {
    if (entry.phase === "running") checkRunning(shift, entry, time)
  }
  for (const entry of shift.slots.stale()) release(shift, entry, "shutdown")
}

const checkRunning = (shift: Shift, entry: Entry.Entry, time: number): void => {
  if (entry.stopDeadlineMillis !== undefined) {
    if (time < entry.stopDeadlineMillis) return
    // It would not stop: the row must not wait for it, but its slot stays taken.
    shift.slots.abandon(entry)
    tellAbandoned(shift, entry)
    conclude(shift, entry, Ended.Interrupted({ confirmed: false }))
    startWaiting(shift)
  } else if (entry.deadlineMillis !== undefined && time >= entry.deadlineMillis) {
    stop(shift, entry, "timeout")
  }
}

const tellAbandoned = (shift: Shift, { claimed }: Entry.Entry): void => {
  const about = { task: claimed.task, execution: claimed.id, abandoned: shift.slots.abandoned() }
  const log = shift.slots.isStuck()
    ? Effect.logError("every slot is held by an attempt that will not stop: restart this worker")
    : Effect.logWarning("an attempt will not stop; its slot stays taken until it does")
  shift.fork(Effect.annotateLogs(log, about))
}

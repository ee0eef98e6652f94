/** Starts and stops attempts, and handles their ends. */
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

/**
 * How long an interrupted attempt may take to end before it is settled without waiting. Runners use a shorter grace of
 * their own.
 */
export const stopGrace = Duration.seconds(10)

/** The most attempts that are started in one step. */
export const maxStarts = 100

/** How long an attempt that did not start, and holds nothing back, waits before it goes back to its queue. */
export const fruitlessPause = Duration.seconds(1)

/** How often deadlines are checked while anything runs. */
export const deadlineResolution = Duration.millis(50)

/** Takes claimed executions into the shift. */
export const accept = (shift: Shift, claims: ReadonlyArray<Broker.Claimed>): void => {
  for (const claimed of claims) {
    // Claimed again: a crash of the store undid the first claim, whose attempt is here and continues.
    if (shift.entries.get(claimed.id)?.claimed.fence === claimed.fence) continue
    const task = shift.tasks.get(claimed.task)
    if (task === undefined || claimed.format !== Envelope.format) {
      // Lanes rule this out, except for a hash collision or a row written by hand.
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
 * Fails executions that have waited for the whole patience, and returns how many. If a process can be had by now, they
 * go back to their queue instead.
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

/** As `startWaiting`, after the running fibers have had their turn. */
export const startSoon = (shift: Shift): void => {
  shift.fork(Effect.andThen(
    Effect.yieldNow,
    Effect.sync(() => {
      startWaiting(shift)
      // A try has no slot, so there may be room for others.
      lookAgain(shift)
    })
  ))
}

/** Starts waiting executions while slots are free. */
export const startWaiting = (shift: Shift): void => {
  // An attempt that ends at once calls this again from within `start`; the loop that started it continues.
  if (shift.phase !== "working" || shift.starting) return
  shift.starting = true
  for (const entry of shift.slots.surplus()) release(shift, entry, "shutdown")
  for (let started = 0;; started++) {
    if (started === maxStarts) {
      // Attempts that end at once would delay the loops, and with them the next claim and the settlements.
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
  // The runner decides what can be interrupted, so that it can still report how an interrupted attempt ended.
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
  // Without a tracer this span is left out: the runner's own span then continues the enqueue's trace.
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
    // Ended when the outcome is recorded: the span covers the time from claim to settlement.
    entry.span = span
    return Effect.withParentSpan(
      shift.runner.run({ ...attempt, traceparent: Option.some(toTraceparent(span)) }),
      span,
      { captureStackTrace: false }
    )
  })
}

/** Ends an attempt's span with the recorded outcome. */
export const endSpan = (shift: Shift, entry: Entry.Entry, recorded: string): void => {
  if (entry.span === undefined) return
  entry.span.attribute("effect_ray.outcome", recorded)
  if (entry.place !== undefined) entry.span.attribute("effect_ray.place", formatPlace(entry.place))
  entry.span.end(shift.clock.currentTimeNanosUnsafe(), Exit.void)
}

const onExit = (shift: Shift, entry: Entry.Entry, exit: Exit.Exit<Ended>): void => {
  const isAbandoned = shift.slots.isAbandoned(entry)
  shift.slots.end(entry)
  // It was settled without waiting, or has another owner.
  if (isAbandoned || shift.phase === "lapsed") forget(shift, [entry])
  else conclude(shift, entry, endedOf(shift, entry, exit))
  startWaiting(shift)
  lookAgain(shift)
  shift.progressed.openUnsafe()
}

/** Tells the runner that these ends need not be kept. */
const forget = (shift: Shift, entries: ReadonlyArray<Entry.Entry>): void => {
  const ends = entries.map(({ claimed }) => ({ execution: claimed.id, fence: claimed.fence }))
  shift.fork(shift.runner.acknowledge(ends))
}

const endedOf = (shift: Shift, { claimed, stopped }: Entry.Entry, exit: Exit.Exit<Ended>): Ended =>
  Handler.endOf(exit, stopped !== undefined, (line) => {
    const about = { task: claimed.task, execution: claimed.id, attempt: claimed.attempt }
    shift.fork(Effect.annotateLogs(line, about))
  })

/** Decides the outcome of an end and hands it to the settler. */
const conclude = (shift: Shift, entry: Entry.Entry, ended: Ended): void => {
  entry.phase = "settling"
  if (ended._tag === "NotStarted") holdBack(shift, entry.share, ended.obstacle)
  const place = Option.map(Option.fromUndefinedOr(entry.place), formatPlace)
  const hand = (outcome: Outcome) => settle(shift, entry.claimed, outcome, place)
  if (isFailure(entry, ended)) return void shift.fork(Effect.map(outcomeOfFailure(shift, entry, ended), hand))
  const outcome = outcomeOf(entry, ended)
  if (outcome._tag === "Lost" && outcome.final) tellLost(shift, entry, ended)
  if (!isFruitless(entry, outcome)) return hand(outcome)
  // Nothing else limits how often this happens: hosts that cannot start would be requested without a pause.
  shift.fork(Effect.andThen(Effect.sleep(fruitlessPause), Effect.sync(() => hand(outcome))))
}

/** Logs an execution that ends without a further attempt, as failed ones are logged, but not each one of thousands. */
const tellLost = (shift: Shift, { claimed }: Entry.Entry, ended: Ended): void => {
  const spent = shift.lostLines.spend()
  if (spent === "none") return
  const words = claimed.atMostOnce
    ? "an execution is lost, because it must not run twice"
    : "an execution is quarantined, because its attempts took their processes down"
  const line = spent === "rest"
    ? Effect.logWarning(`more than ${maxLostLines} executions were lost in this minute: the rest are not logged`)
    : Effect.annotateLogs(Effect.logWarning(words), {
      task: claimed.task,
      execution: claimed.id,
      losses: claimed.losses + (ended._tag === "Lost" ? 1 : 0),
      reason: ended._tag === "Lost" ? TaskError.describe(ended.reason) : "its worker shut down while it ran"
    })
  shift.fork(line)
}

/** Whether the runner gave it back unstarted, and that neither counts against the execution nor holds anything back. */
const isFruitless = (entry: Entry.Entry, outcome: Outcome): boolean =>
  entry.place === undefined && entry.stopped === undefined && Shares.obstacleOf(entry.share) === undefined &&
  (outcome._tag === "Returned" || (outcome._tag === "Lost" && !outcome.counted))

const holdBack = (shift: Shift, share: Shares.Share, obstacle: Obstacle): void => {
  Shares.holdBack(share, obstacle, now(shift))
  // A process may have started while the attempt was on its way back.
  Shares.look(share)
  shift.tellable.openUnsafe()
}

/** Applies changes in the runner's pools. */
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
  place: Option.Option<string>
): void => {
  const length = claimed.payload.length + ("result" in outcome ? outcome.result.length : 0)
  shift.settler.add([{ id: claimed.id, fence: claimed.fence, outcome, place, length }])
}

/** Asks a running attempt to end. How it ends, or that it does not, decides its outcome. */
export const stop = (shift: Shift, entry: Entry.Entry, why: Stopped): void => {
  if (entry.phase === "settling" || entry.stopped !== undefined) return
  if (entry.phase === "waiting") return release(shift, entry, why)
  entry.stopped = why
  entry.stopDeadlineMillis = now(shift) + Duration.toMillis(stopGrace)
  entry.fiber?.interruptUnsafe()
}

/** Gives back an execution that never started. */
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

/** Gives back every execution that waits for a slot. */
export const releaseBacklog = (shift: Shift): void => {
  for (const entry of shift.slots.waiting()) release(shift, entry, "shutdown")
}

/** Gives back executions of paused lanes that wait for a slot. */
export const releasePaused = (shift: Shift): void => {
  for (const entry of shift.slots.waiting()) {
    if (isPaused(shift, entry.claimed)) release(shift, entry, "shutdown")
  }
}

/** Interrupts everything without telling the broker, because its executions have other owners. */
export const abandonAll = (shift: Shift): void => {
  shift.phase = "lapsed"
  for (const entry of shift.slots.waiting()) shift.slots.withdraw(entry)
  shift.settler.clear()
  // Running entries are forgotten when they end.
  forget(shift, Array.from(shift.entries.values()).filter((entry) => entry.phase === "settling"))
  for (const entry of shift.entries.values()) {
    endSpan(shift, entry, "LeaseLost")
    entry.fiber?.interruptUnsafe()
  }
}

/** Stops attempts that exceed their timeout, and settles those that did not stop. */
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
    // It did not stop. The row must not wait for it, but its slot stays taken.
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
    ? Effect.logError("every slot is held by an attempt that does not stop: restart this worker")
    : Effect.logWarning("an attempt does not stop; its slot stays taken until it does")
  shift.fork(Effect.annotateLogs(log, about))
}

/** What goes on during a shift: claiming, settling, ticking, and listening. All of it survives a broker that does not answer. */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import type * as Broker from "../Broker.ts"
import type { BrokerError } from "../BrokerError.ts"
import type { Obstacle, Outcome } from "../Outcome.ts"
import {
  abandonAll,
  accept,
  endSpan,
  lookAtPools,
  refuse,
  releaseBacklog,
  releasePaused,
  startSoon,
  startWaiting,
  stop
} from "./attempts.ts"
import * as Shares from "./shares.ts"
import { isPaused, maxClaim, nameOfLane, nextTry, now, type Pending, type Shift, wanted, type Wanted } from "./shift.ts"
import { takeTurn } from "./upkeep.ts"

/** The longest time between two ticks. The idle budget of a worker is one query in this time. */
export const maxTickInterval = Duration.seconds(5)

/** The shortest time between two ticks that were asked for. */
export const minTickInterval = Duration.millis(200)

/** The most settlements in one statement. */
export const maxSettle = 1_000

/** The most characters of payloads and results in one statement, unless the first has more alone. */
export const maxSettleLength = 16 * 1024 * 1024

/** How long the end of an execution that another transaction holds waits before it is tried again. */
const lockedPause = Duration.seconds(1)

/** How long to wait before the broker is asked again: slower each time, never long. */
const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")]).pipe(Schedule.jittered)

/** How long to wait after something that no repetition can help, before the loop goes on. */
const badDataPause = Duration.seconds(1)

/**
 * Tries until the broker answers, and says so once per outage. Bad data is no outage: where there is something to go on
 * with, it is told and passed.
 */
export const persistently = <A, R>(
  operation: string,
  effect: Effect.Effect<A, BrokerError, R>,
  otherwise?: A
): Effect.Effect<A, never, R> => {
  const passed = otherwise === undefined ? effect : Effect.catchIf(
    effect,
    ({ reason }) => reason._tag === "BadData",
    ({ message }) => Effect.as(Effect.andThen(Effect.logError(message), Effect.sleep(badDataPause)), otherwise)
  )
  return Effect.catch(
    passed,
    (error) =>
      Effect.logWarning(`${operation}: the broker does not answer, trying again: ${error.message}`).pipe(
        Effect.andThen(Effect.retry(passed, backoff)),
        Effect.tap(() => Effect.logInfo(`${operation}: the broker answers again`)),
        Effect.orDie
      )
  )
}

/** Claims whenever there is room and something may be due, once a tick has told what is paused. */
export const claimLoop = (shift: Shift): Effect.Effect<never> =>
  Effect.andThen(shift.ticked.await, claimAgainAndAgain(shift))

const claimAgainAndAgain = (shift: Shift): Effect.Effect<never> =>
  Effect.forever(
    Effect.suspend(() => {
      shift.claimable.closeUnsafe()
      const doomed = shift.shares.find(({ doomed }) => doomed)
      if (doomed === undefined || shift.phase !== "working") return claimOnce(shift)
      // The others must not wait until all that is doomed has failed.
      return Effect.andThen(failOldest(shift, doomed), claimOnce(shift))
    }),
    { disableYield: true }
  )

const claimOnce = (shift: Shift): Effect.Effect<void> =>
  Effect.suspend(() => {
    const want = wanted(shift)
    if (want.limit === 0) return untilClaimable(shift)
    return Effect.flatMap(claim(shift, want), (claimed) => {
      accept(shift, claimed)
      // It was under way when the drain began.
      if (shift.phase === "draining") releaseBacklog(shift)
      // A full claim has more behind it. The next one is sent first, so that the broker works while handlers do.
      if (claimed.length === want.limit) startSoon(shift)
      else startWaiting(shift)
      if (claimed.length > 0) return Effect.void
      // The lanes are empty now. When is the next one due? A tick knows.
      shift.tickable.openUnsafe()
      return untilClaimable(shift)
    })
  })

/**
 * Fails what has waited for a process for as long as it may, up to a claim's worth; only in lanes that no other worker could
 * have run meanwhile.
 */
const failOldest = Effect.fnUntraced(function*(shift: Shift, share: Shares.Share) {
  const lanes = (yield* tellHold(shift, share)).filter((lane) => !isPaused(shift, lane))
  const claimed = lanes.length === 0 ? [] : yield* claim(shift, { lanes, limit: maxClaim, waited: shift.patience })
  const failed = refuse(shift, share, claimed)
  share.failed += failed
  share.doomed = failed > 0
  if (share.doomed) return shift.claimable.openUnsafe()
  if (share.failed === 0) return
  yield* Effect.logWarning("executions failed: no process could be had for them").pipe(
    Effect.annotateLogs({ executions: share.failed, tasks: share.tasks.map((task) => task._tag) })
  )
  share.failed = 0
})

const claim = (
  shift: Shift,
  want: Wanted & { readonly waited?: Duration.Duration }
): Effect.Effect<ReadonlyArray<Broker.Claimed>> => {
  const claimed = persistently(
    "claim",
    Effect.tapError(
      shift.broker.claim({ supervisor: shift.id, ...want }),
      () => Effect.sync(() => shift.doubtful = true)
    ),
    []
  )
  return Effect.flatMap(claimed, (claimed) => shift.doubtful ? recover(shift) : Effect.succeed(claimed))
}

/** What is owned and not in hand: a claim whose answer was lost took it. */
const recover = (shift: Shift): Effect.Effect<ReadonlyArray<Broker.Claimed>> =>
  Effect.suspend(() => {
    // Before the question: a settlement that is refused meanwhile asks for another.
    shift.doubtful = false
    // What was in hand when the question was asked may have been settled by the time it is answered.
    const before = new Map(Array.from(shift.entries, ([id, { claimed }]) => [id, claimed.fence]))
    return Effect.map(persistently("claim", shift.broker.owned(shift.id), []), (owned) =>
      owned.filter(({ fence, id }) =>
        before.get(id) !== fence && shift.entries.get(id)?.claimed.fence !== fence
      ))
  })

const untilClaimable = (shift: Shift): Effect.Effect<void> =>
  Effect.suspend(() => {
    const delay = Math.min(shift.nextDueMillis, nextTry(shift)) - now(shift)
    if (!Number.isFinite(delay)) return shift.claimable.await
    return Effect.race(shift.claimable.await, Effect.sleep(Math.max(0, delay))).pipe(
      Effect.andThen(Effect.sync(() => {
        if (shift.nextDueMillis <= now(shift)) shift.nextDueMillis = Number.POSITIVE_INFINITY
      }))
    )
  })

/** Settles what has ended, as many as there are in one statement. */
export const settleLoop = (shift: Shift): Effect.Effect<never> =>
  Effect.forever(Effect.suspend(() => {
    if (shift.settlements.length === 0) {
      shift.settleable.closeUnsafe()
      return shift.settleable.await
    }
    const batch = shift.settlements.splice(0, batchSize(shift.settlements))
    return Effect.flatMap(
      // What cannot be recorded is over all the same, and must not be run again: it stays with this supervisor until that leaves.
      persistently("settle", shift.broker.settle(shift.id, batch), batch.map(() => "Settled" as const)),
      (answers) => recorded(shift, batch, answers)
    )
  }))

/** How many of these go into the next statement. */
const batchSize = (settlements: ReadonlyArray<Pending>): number => {
  let length = 0
  for (const [index, settlement] of settlements.entries()) {
    length += settlement.length
    if (index === maxSettle || (index > 0 && length > maxSettleLength)) return index
  }
  return settlements.length
}

const recorded = (
  shift: Shift,
  batch: ReadonlyArray<Pending>,
  answers: ReadonlyArray<Broker.Settled>
): Effect.Effect<void> => {
  const acknowledged: Array<{ readonly execution: string; readonly fence: number }> = []
  const locked: Array<Pending> = []
  let lost = 0
  batch.forEach((settlement, index) => {
    if (answers[index] === "Locked") return locked.push(settlement)
    const entry = shift.entries.get(settlement.id)
    // What was given back may have been claimed again before this answer came.
    if (entry !== undefined && entry.claimed.fence === settlement.fence) {
      endSpan(shift, entry, answers[index] === "Settled" ? settlement.outcome._tag : "LeaseLost")
      shift.entries.delete(settlement.id)
      // A try that is back in its queue can be claimed with the others that have waited.
      if (settlement.outcome._tag === "Returned" && Shares.isFailing(entry.share)) {
        entry.share.doomed = true
        shift.claimable.openUnsafe()
      }
    }
    acknowledged.push({ execution: settlement.id, fence: settlement.fence })
    if (answers[index] === "LeaseLost") lost++
    if (settlement.outcome._tag === "Retry") dueAfter(shift, settlement.outcome.delay)
    if (isBackAtOnce(settlement.outcome._tag)) dueAfter(shift, Duration.zero)
  })
  // A crash of the store may have undone a claim that has been made again since, under the fence that was just refused.
  if (lost > 0) shift.doubtful = true
  shift.progressed.openUnsafe()
  if (wanted(shift).limit > 0) shift.claimable.openUnsafe()
  const tellLost = lost === 0
    ? Effect.void
    : Effect.logWarning(`${lost} settlements came too late: their executions have moved on`)
  if (locked.length > 0) {
    Effect.runForkWith(shift.context)(Effect.andThen(
      Effect.sleep(lockedPause),
      Effect.sync(() => {
        shift.settlements.push(...locked)
        shift.settleable.openUnsafe()
      })
    ))
  }
  return Effect.andThen(tellLost, shift.runner.acknowledge(acknowledged))
}

const isBackAtOnce = (outcome: Outcome["_tag"]): boolean =>
  outcome === "Lost" || outcome === "Released" || outcome === "Returned"

/** Something of these lanes will be due after this long. */
const dueAfter = (shift: Shift, delay: Duration.Duration): void => {
  const due = now(shift) + Duration.toMillis(delay)
  if (due >= shift.nextDueMillis) return
  shift.nextDueMillis = due
  shift.claimable.openUnsafe()
}

/** Keeps the lease, and hears what a tick tells. Ends the shift when the lease has lapsed. */
export const tickLoop = (shift: Shift): Effect.Effect<void, never, Scope> => {
  const interval = Duration.min(maxTickInterval, Duration.millis(Duration.toMillis(shift.lease) / 3))
  const wait = Effect.andThen(
    Effect.sleep(Duration.min(minTickInterval, interval)),
    Effect.race(shift.tickable.await, Effect.sleep(interval))
  )
  const tick = Effect.suspend(() => {
    shift.tickable.closeUnsafe()
    // Only of lanes that would be claimed: what is due in the others is no reason to claim.
    const { lanes } = wanted(shift)
    const duties = shift.broker.duties.map(({ name }) => name)
    return persistently("tick", shift.broker.tick({ supervisor: shift.id, lanes, lease: shift.lease, duties }))
  })
  return Effect.gen(function*() {
    const turns = yield* FiberMap.make<string>()
    while (true) {
      const answer = yield* tick
      if (!answer.alive) {
        const next = shift.phase === "working" ? ", a new shift begins" : ""
        yield* Effect.logWarning(`the lease has lapsed: running attempts are abandoned${next}`)
        // At once, also while the shift drains: others own what it runs.
        abandonAll(shift)
        shift.progressed.openUnsafe()
        return yield* Effect.asVoid(Deferred.succeed(shift.lapsed, undefined))
      }
      hear(shift, answer)
      shift.ticked.openUnsafe()
      for (const duty of shift.broker.duties) {
        if (!answer.dueDuties.includes(duty.name)) continue
        // Executions may come back to these lanes.
        const turn = Effect.tap(takeTurn(shift.broker, duty), () => Effect.sync(() => shift.tickable.openUnsafe()))
        yield* FiberMap.run(turns, duty.name, turn, { onlyIfMissing: true })
      }
      yield* wait
    }
  })
}

const hear = (shift: Shift, tick: Broker.Tick): void => {
  hearPauses(shift, tick.paused)
  for (const id of tick.cancelling) cancel(shift, id)
  if (Option.isSome(tick.nextDue)) dueAfter(shift, tick.nextDue.value)
}

const hearPauses = (shift: Shift, paused: ReadonlyArray<Broker.Lane>): void => {
  const names = new Set(paused.map(nameOfLane))
  const resumed = [...shift.paused].some((name) => !names.has(name))
  shift.paused = names
  if (names.size > 0) releasePaused(shift)
  // What is due there is told by the next tick, which looks into these lanes again.
  if (!resumed) return
  shift.claimable.openUnsafe()
  shift.tickable.openUnsafe()
}

const cancel = (shift: Shift, id: Broker.ExecutionId): void => {
  const entry = shift.entries.get(id)
  if (entry !== undefined) stop(shift, entry, "cancel")
}

/** Turns wake-ups into claims, cancellations and ticks. */
export const listen = (shift: Shift): Effect.Effect<void, never, Scope> => {
  const queues = [...new Set(shift.lanes.map((lane) => lane.queue))]
  return persistently(
    "listen",
    shift.broker.listen(queues, (wakeup) => {
      if (wakeup._tag === "Cancelling") cancel(shift, wakeup.id)
      else if (wakeup._tag !== "Paused") shift.claimable.openUnsafe()
      if (wakeup._tag === "Resync" || wakeup._tag === "Paused") shift.tickable.openUnsafe()
    })
  )
}

/** Takes up what the runner's pools become. */
export const watchPools = (shift: Shift): Effect.Effect<void, never, Scope> =>
  shift.runner.listen(() => lookAtPools(shift))

/**
 * Says what is held back, in the log and to the broker: when it begins, when it ends, and for another kind of reason. Words
 * that hold a number or an id are others each time, and are said again after a while only.
 */
export const tellLoop = (shift: Shift): Effect.Effect<never> =>
  Effect.forever(Effect.suspend(() => {
    shift.tellable.closeUnsafe()
    const changed = shift.shares.filter((share) =>
      Shares.isNews(share, wordsOf(Shares.obstacleOf(share)), now(shift)) || isOutdated(share, Shares.isFailing(share))
    )
    if (changed.length === 0) return shift.tellable.await
    return Effect.forEach(changed, (share) => {
      const obstacle = Shares.obstacleOf(share)
      const words = wordsOf(obstacle)
      if (!Shares.isNews(share, words, now(shift))) return tellHold(shift, share)
      share.told = Shares.toldOf(share, words, now(shift))
      return Effect.andThen(log(share, obstacle), tellHold(shift, share))
    }, { discard: true })
  }))

/** Whether the broker does not know yet that the share is failing, or not any more. */
const isOutdated = ({ told }: Shares.Share, failing: boolean): boolean => told !== undefined && told.failing !== failing

/** Tells the broker how things are with a share. Returns those of its lanes that are given up. */
const tellHold = (shift: Shift, share: Shares.Share): Effect.Effect<ReadonlyArray<Broker.Lane>> =>
  shift.telling.withPermit(persistently(
    "hold",
    Effect.suspend(() => {
      const failing = Shares.isFailing(share)
      if (share.told !== undefined) share.told = { ...share.told, failing }
      // What was said last: the row is not written anew for each other word.
      const words = share.told?.words ?? wordsOf(Shares.obstacleOf(share))
      return shift.broker.hold({
        supervisor: shift.id,
        lanes: share.lanes,
        reason: Option.fromUndefinedOr(words),
        failing,
        patience: shift.patience
      })
    }),
    []
  ))

const wordsOf = (obstacle: Obstacle | undefined): string | undefined =>
  obstacle === undefined ? undefined : `${headline[obstacle.kind]}: ${obstacle.detail}`

const headline: { readonly [Kind in Obstacle["kind"]]: string } = {
  failed: "no host starts",
  unschedulable: "no node can hold a host",
  starting: "a host is being prepared",
  waiting: "the resources for a host are taken",
  unreachable: "no host can be asked for"
}

const log = (share: Shares.Share, obstacle: Obstacle | undefined): Effect.Effect<void> => {
  const line = obstacle === undefined
    ? Effect.logInfo("executions of these tasks are claimed again")
    : obstacle.kind === "failed" || obstacle.kind === "unschedulable"
    ? Effect.logWarning(`executions of these tasks are held back: ${wordsOf(obstacle)}`)
    : Effect.logInfo(`executions of these tasks are held back: ${wordsOf(obstacle)}`)
  return Effect.annotateLogs(line, { tasks: share.tasks.map((task) => task._tag) })
}

/**
 * The loops of a shift: claiming, settling, ticking and listening. All of them survive a broker that does not answer.
 */
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import type * as Broker from "../Broker.ts"
import type { Outcome } from "../Outcome.ts"
import {
  abandonAll,
  accept,
  endSpan,
  lookAtPools,
  releaseBacklog,
  releasePaused,
  startSoon,
  startWaiting,
  stop
} from "./attempts.ts"
import { claim } from "./claim.ts"
import { askAfter, failOldest } from "./holds.ts"
import { laneOf, queue as runQueue } from "../RunStore.ts"
import { persistently } from "./persistently.ts"
import type { Pending } from "./settler.ts"
import * as Shares from "./shares.ts"
import { lookAgain, nameOfLane, type Shift, wanted } from "./shift.ts"
import { takeTurn } from "./upkeep.ts"

/** The longest time between two ticks. An idle worker makes one query in this time. */
export const maxTickInterval = Duration.seconds(5)

/** The shortest time between two ticks that were requested. */
export const minTickInterval = Duration.millis(200)

/** How long to wait before a settlement is repeated whose execution another transaction has locked. */
const lockedPause = Duration.seconds(1)

/**
 * The same while the shift ends: what it leaves behind is taken from it as soon as the lock is gone, and then its outcome
 * is lost.
 */
const lastLockedPause = Duration.millis(20)

/** Claims whenever there is room and something may be due, once a tick has reported what is paused. */
export const claimLoop = (shift: Shift): Effect.Effect<never> =>
  Effect.andThen(shift.ticked.await, claimAgainAndAgain(shift))

const claimAgainAndAgain = (shift: Shift): Effect.Effect<never> =>
  Effect.forever(
    Effect.suspend(() => {
      shift.due.close()
      // Other executions must not wait until all that are to fail have failed.
      return Effect.andThen(failOldest(shift), claimOnce(shift))
    }),
    { disableYield: true }
  )

const claimOnce = (shift: Shift): Effect.Effect<void> =>
  Effect.suspend(() => {
    const want = wanted(shift)
    if (want.limit === 0) return untilClaimable(shift)
    return Effect.flatMap(claim(shift, want), (claimed) => {
      accept(shift, claimed)
      // The claim was under way when the drain began.
      if (shift.phase !== "working") releaseBacklog(shift)
      // A full claim has more behind it. The next one is sent first, so that the broker works while handlers do.
      if (claimed.length === want.limit) startSoon(shift)
      else startWaiting(shift)
      if (claimed.length > 0) return Effect.void
      // The lanes are empty now. A tick says when the next execution is due.
      shift.tickable.openUnsafe()
      return untilClaimable(shift)
    })
  })

const untilClaimable = (shift: Shift): Effect.Effect<void> =>
  Effect.suspend(() => shift.due.wait(shift.slots.nextTry()))

/** Settles what has ended, as many as fit one statement. */
export const settleLoop = (shift: Shift): Effect.Effect<never> =>
  Effect.forever(Effect.suspend(() => {
    const batch = shift.settler.take()
    if (batch.length === 0) return shift.settler.await
    return Effect.flatMap(
      // An outcome that cannot be recorded has still happened and must not run again: the execution stays with this
      // supervisor until it leaves.
      persistently("settle", shift.broker.settle(shift.id, batch), batch.map(() => "Settled" as const)),
      (answers) => recorded(shift, batch, answers)
    )
  }))

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
    // What was given back may have been claimed again before this response arrived.
    if (entry !== undefined && entry.claimed.fence === settlement.fence) {
      endSpan(shift, entry, answers[index] === "Settled" ? settlement.outcome._tag : "LeaseLost")
      shift.entries.delete(settlement.id)
      // A try that is back in its queue can be claimed together with the others that have waited.
      if (settlement.outcome._tag === "Returned" && Shares.isFailing(entry.share)) {
        askAfter(shift, entry.share)
      }
    }
    acknowledged.push({ execution: settlement.id, fence: settlement.fence })
    if (answers[index] === "LeaseLost") lost++
    if (settlement.outcome._tag === "Retry") shift.due.after(Duration.toMillis(settlement.outcome.delay))
    if (isBackAtOnce(settlement.outcome._tag)) shift.due.after(0)
  })
  // A crash of the store may have undone a claim that has been made again since, under the fence that was just refused.
  if (lost > 0) shift.due.doubt()
  shift.progressed.openUnsafe()
  lookAgain(shift)
  const tellLost = lost === 0
    ? Effect.void
    : Effect.logWarning(`${lost} settlements came too late: their executions have other owners`)
  if (locked.length > 0) {
    const pause = shift.phase === "working" ? lockedPause : lastLockedPause
    shift.fork(Effect.andThen(Effect.sleep(pause), Effect.sync(() => shift.settler.add(locked))))
  }
  return Effect.andThen(tellLost, shift.runner.acknowledge(acknowledged))
}

const isBackAtOnce = (outcome: Outcome["_tag"]): boolean =>
  outcome === "Lost" || outcome === "Released" || outcome === "Returned"

/** Renews the lease and applies what a tick returns. Ends the shift when the lease has lapsed. */
export const tickLoop = (shift: Shift): Effect.Effect<void, never, Scope> => {
  const interval = Duration.min(maxTickInterval, Duration.millis(Duration.toMillis(shift.lease) / 3))
  const wait = Effect.andThen(
    Effect.sleep(Duration.min(minTickInterval, interval)),
    Effect.race(shift.tickable.await, Effect.sleep(interval))
  )
  const tick = Effect.suspend(() => {
    shift.tickable.closeUnsafe()
    // Only lanes that would be claimed: what is due in the others is no reason to claim.
    const { lanes: wantedLanes } = wanted(shift)
    const lanes = shift.runs?.hasRoom() === true
      ? [...wantedLanes, ...shift.runs.workflows().map(laneOf)]
      : wantedLanes
    const duties = shift.broker.duties.map(({ name }) => name)
    return persistently("tick", shift.broker.tick({ supervisor: shift.id, lanes, lease: shift.lease, duties }))
  })
  return Effect.gen(function*() {
    const turns = yield* FiberMap.make<string>()
    while (true) {
      const answer = yield* tick
      // It has given up its lease.
      if (!answer.alive && shift.phase === "leaving") return
      if (!answer.alive) {
        const next = shift.phase === "working" ? ", a new shift begins" : ""
        yield* Effect.logWarning(`the lease has lapsed: running attempts are abandoned${next}`)
        // At once, even while the shift drains: its executions have other owners.
        abandonAll(shift)
        shift.runs?.abandon()
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
  if (Option.isSome(tick.nextDue)) {
    shift.due.after(Duration.toMillis(tick.nextDue.value))
    shift.runs?.dueAfter(Duration.toMillis(tick.nextDue.value))
  }
  shift.runs?.look(tick.unread)
}

const hearPauses = (shift: Shift, paused: ReadonlyArray<Broker.Lane>): void => {
  const names = new Set(paused.map(nameOfLane))
  const resumed = [...shift.paused].some((name) => !names.has(name))
  shift.paused = names
  if (names.size > 0) releasePaused(shift)
  // The next tick checks these lanes again and reports what is due there.
  if (!resumed) return
  shift.due.open()
  shift.tickable.openUnsafe()
}

const cancel = (shift: Shift, id: Broker.ExecutionId): void => {
  const entry = shift.entries.get(id)
  if (entry !== undefined) stop(shift, entry, "cancel")
}

/** Turns wake-ups into claims, cancellations and ticks. */
export const listen = (shift: Shift): Effect.Effect<void, never, Scope> => {
  const queues = [...new Set(shift.lanes.map((lane) => lane.queue)), ...(shift.runs === undefined ? [] : [runQueue])]
  return persistently(
    "listen",
    shift.broker.listen(queues, (wakeup) => {
      if (wakeup._tag === "Cancelling") cancel(shift, wakeup.id)
      else if (wakeup._tag === "Woken") shift.runs?.look(wakeup.ids)
      else if (wakeup._tag === "Enqueued" && wakeup.queue === runQueue) shift.runs?.dueAfter(0)
      else if (wakeup._tag !== "Paused") {
        shift.due.open()
        if (wakeup._tag === "Resync") shift.runs?.dueAfter(0)
      }
      if (wakeup._tag === "Resync" || wakeup._tag === "Paused") shift.tickable.openUnsafe()
    })
  )
}

/** Applies changes in the runner's pools. */
export const watchPools = (shift: Shift): Effect.Effect<void, never, Scope> =>
  shift.runner.listen(() => lookAtPools(shift))

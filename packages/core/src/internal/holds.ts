/**
 * Reports shares that are held back because their pool has no process, and fails executions that have waited for the
 * whole patience.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Broker from "../Broker.ts"
import type { Obstacle } from "../Outcome.ts"
import { accept, refuse, startSoon } from "./attempts.ts"
import { claim } from "./claim.ts"
import type { Share } from "./entry.ts"
import { persistently } from "./persistently.ts"
import * as Shares from "./shares.ts"
import { isPaused, now, type Shift } from "./shift.ts"
import { maxClaim } from "./slots.ts"

/** How exactly brokers tell how long an execution has been due, in milliseconds. */
const clockPrecision = 1

/**
 * Reports shares that are held back, in the log and to the broker: when a hold begins, when it ends, and when the kind
 * of obstacle changes. A reason may contain a number or an id that differs each time, so a new text of the same kind is
 * only reported after a while.
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

/** Whether the broker was last told something else about whether the share is failing. */
const isOutdated = ({ told }: Shares.Share, failing: boolean): boolean => told !== undefined && told.failing !== failing

/** Reports a share's state to the broker. Returns those of its lanes that are given up. */
const tellHold = (shift: Shift, share: Shares.Share): Effect.Effect<ReadonlyArray<Broker.Lane>> =>
  shift.telling.withPermit(persistently(
    "hold",
    Effect.suspend(() => {
      const failing = Shares.isFailing(share)
      if (share.told !== undefined) share.told = { ...share.told, failing }
      // The words that were reported last, so that the row is not rewritten each time they change.
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
  unreachable: "there is no gateway to request a host from"
}

const log = (share: Shares.Share, obstacle: Obstacle | undefined): Effect.Effect<void> => {
  const line = obstacle === undefined
    ? Effect.logInfo("executions of these tasks are claimed again")
    : obstacle.kind === "failed" || obstacle.kind === "unschedulable"
    ? Effect.logWarning(`executions of these tasks are held back: ${wordsOf(obstacle)}`)
    : Effect.logInfo(`executions of these tasks are held back: ${wordsOf(obstacle)}`)
  return Effect.annotateLogs(line, { tasks: share.tasks.map((task) => task._tag) })
}

/**
 * Called when a try of the share came back without having begun: executions may now have waited for the whole patience.
 */
export const askAfter = (shift: Shift, share: Share): void => {
  share.doomed = true
  shift.due.open()
}

/**
 * Fails executions that have waited for a process for the whole patience, at most one claim's worth, and only in lanes
 * that no other worker could have run in the meantime.
 */
export const failOldest = Effect.fnUntraced(function*(shift: Shift) {
  const share = shift.shares.find(({ doomed }) => doomed)
  if (share === undefined || shift.phase !== "working") return
  const lanes = (yield* tellHold(shift, share)).filter((lane) => !isPaused(shift, lane))
  const claimed = lanes.length === 0 ? [] : yield* claim(shift, { lanes, limit: maxClaim, waited: shift.patience })
  // What is recovered together with it has waited for something else, or not as long.
  const isDoomed = ({ queue, task, waitedMillis }: Broker.Claimed) =>
    lanes.some((lane) => lane.queue === queue && lane.task === task) &&
    waitedMillis + clockPrecision >= Duration.toMillis(shift.patience)
  accept(shift, claimed.filter((one) => !isDoomed(one)))
  startSoon(shift)
  const failed = refuse(shift, share, claimed.filter(isDoomed))
  share.failed += failed
  share.doomed = failed > 0
  if (share.doomed) return shift.due.open()
  if (share.failed === 0) return
  yield* Effect.logWarning("executions failed: there was no process to run them").pipe(
    Effect.annotateLogs({ executions: share.failed, tasks: share.tasks.map((task) => task._tag) })
  )
  share.failed = 0
})

/**
 * What a shift has in hand for each of its runner's pools, and which of them are held back.
 *
 * A pool without a process is tried with one attempt at a time. If that attempt comes back without having begun, the
 * share is held back: its lanes are claimed only for the next try, each after a longer delay, or as soon as the pool
 * has a process. The other shares continue at their full rate.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Lane } from "../Broker.ts"
import { type Obstacle, reasonOf } from "../Outcome.ts"
import type { Pool } from "../Runner.ts"
import type * as Definition from "../Definition.ts"

/** The delay before the first try after one that came back. It doubles each time, up to the longest delay. */
export const minTryDelay = Duration.seconds(1)
export const maxTryDelay = Duration.seconds(30)

/** How long after a report on a hold the next one follows, unless it is of a kind that has not been reported. */
export const newWordsDelay = Duration.minutes(5)

/** The most attempts that are claimed before a slot is free. */
export const maxPrefetch = 1_000

/** Prefetch may hold as many as ended within this window, so that long attempts never wait behind each other. */
export const prefetchWindowMillis = 100

/** Why a share is held back, and until when. Times are in milliseconds of the process's clock. */
export interface Hold {
  readonly obstacle: Obstacle
  readonly delayMillis: number
  readonly nextTry: number
  /** Whether waiting alone will not change it. */
  readonly failing: boolean
}

/** What was last reported about a hold, in the log and to the broker. */
export interface Told {
  readonly words: string
  readonly atMillis: number
  /** The kinds of obstacle that have been reported since it began. */
  readonly kinds: ReadonlySet<Obstacle["kind"]>
  /** Whether the broker was told that the share is failing. */
  readonly failing: boolean
}

export interface Share<out Entry = unknown> {
  readonly pool: Pool
  readonly tasks: ReadonlyArray<Definition.Any>
  readonly lanes: ReadonlyArray<Lane>
  /** Claimed and waiting to start, in order. */
  readonly backlog: Array<Entry>
  /** Started and not ended. */
  running: number
  hold: Hold | undefined
  /** What was last reported about the hold; undefined when nothing is held back. */
  told: Told | undefined
  /** Whether executions that have waited for the whole patience are to fail, in the lanes that are given up. */
  doomed: boolean
  /** How many have failed since that was last reported. */
  failed: number
  recentEnds: { windowStart: number; current: number; previous: number }
}

/** One share for each pool of the tasks. */
export const make = <Entry>(
  tasks: ReadonlyArray<Definition.Any>,
  poolOf: (task: Definition.Any) => Pool
): ReadonlyArray<Share<Entry>> => {
  const byPool = new Map<Pool, Array<Definition.Any>>()
  for (const task of tasks) {
    const pool = poolOf(task)
    byPool.set(pool, [...byPool.get(pool) ?? [], task])
  }
  return Array.from(byPool, ([pool, tasks]) => ({
    pool,
    tasks,
    lanes: tasks.map((task) => ({ queue: task.options.queue, task: task._tag })),
    backlog: [],
    running: 0,
    hold: undefined,
    told: undefined,
    doomed: false,
    failed: 0,
    recentEnds: { windowStart: 0, current: 0, previous: 0 }
  }))
}

/**
 * Whether there is something to report: that the share is held back or no longer so, or a reason that was not just
 * reported.
 */
export const isNews = (share: Share, words: string | undefined, now: number): boolean => {
  const { told } = share
  const obstacle = obstacleOf(share)
  if (obstacle === undefined || told === undefined) return (obstacle === undefined) !== (told === undefined)
  if (words === told.words) return false
  return !told.kinds.has(obstacle.kind) || now - told.atMillis >= Duration.toMillis(newWordsDelay)
}

/** What has been reported after this report. */
export const toldOf = (share: Share, words: string | undefined, now: number): Told | undefined => {
  const kind = obstacleOf(share)?.kind
  if (kind === undefined || words === undefined) return undefined
  return { words, atMillis: now, kinds: new Set([...share.told?.kinds ?? [], kind]), failing: false }
}

/** Counts an end, for the prefetch. */
export const noteEnd = (share: Share, now: number): void => {
  rotate(share, now)
  share.recentEnds.current++
}

const rotate = ({ recentEnds }: Share, now: number): void => {
  const elapsed = now - recentEnds.windowStart
  if (elapsed < prefetchWindowMillis) return
  recentEnds.previous = elapsed < 2 * prefetchWindowMillis ? recentEnds.current : 0
  recentEnds.current = 0
  recentEnds.windowStart = now
}

/** How many more attempts than it can run at once a share may have in hand. */
export const prefetch = (share: Share, now: number): number => {
  rotate(share, now)
  return Math.min(maxPrefetch, Math.max(share.recentEnds.previous, share.recentEnds.current))
}

export const hasProcess = ({ pool }: Share): boolean => pool.limit > 0 && pool.closed === undefined

/** Whether an attempt may now test whether the pool can have a process. */
const isTryDue = (share: Share, now: number): boolean =>
  share.pool.closed === undefined && (share.hold === undefined || now >= share.hold.nextTry)

/** How many of these executions the shift may have in hand, including those it already has. */
export const most = (share: Share, now: number): number => {
  if (hasProcess(share)) return share.pool.limit + prefetch(share, now)
  return isTryDue(share, now) ? 1 : 0
}

/** Whether another attempt may be started. */
export const mayStart = (share: Share, now: number): boolean =>
  share.running < (hasProcess(share) ? share.pool.limit : isTryDue(share, now) ? 1 : 0)

/** How many at the end of the backlog came too early: a pool without a process is tried with one attempt at a time. */
export const surplus = (share: Share, now: number): number => {
  if (hasProcess(share)) return 0
  const early = share.running + share.backlog.length - (isTryDue(share, now) ? 1 : 0)
  return Math.max(0, Math.min(share.backlog.length, early))
}

/** Called when a try came back without having begun. */
export const holdBack = (share: Share, obstacle: Obstacle, now: number): void => {
  const { hold } = share
  const delayMillis = hold === undefined
    ? Duration.toMillis(minTryDelay)
    : Math.min(2 * hold.delayMillis, Duration.toMillis(maxTryDelay))
  share.hold = {
    obstacle,
    delayMillis,
    nextTry: now + delayMillis,
    failing: Option.isSome(reasonOf(obstacle)) || (obstacle.kind === "starting" && hold?.failing === true)
  }
}

/** Applies a change in the pool. */
export const look = (share: Share): void => {
  if (hasProcess(share)) share.hold = undefined
}

/** Why nothing of this share is claimed now; undefined if it is claimed. */
export const obstacleOf = ({ hold, pool }: Share): Obstacle | undefined =>
  pool.closed === undefined ? hold?.obstacle : { kind: "unreachable", detail: pool.closed }

/** Whether no process can be had, and waiting alone does not change that. */
export const isFailing = ({ hold, pool }: Share): boolean => pool.closed === undefined && hold?.failing === true

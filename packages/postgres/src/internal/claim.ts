/** Claim: due executions of these lanes, each with a new fence. */
import type { Claimed, ClaimLane, SupervisorId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { suspectLosses } from "@effect-ray/core/Outcome"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { Floors } from "./floors.ts"
import { laneId } from "./lanes.ts"
import { unavailable } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** The most bytes of payload that one claim takes, unless the first has more alone. */
const maxClaimBytes = 16 * 1024 * 1024

export interface ClaimedRow {
  readonly ord: number
  readonly id: string
  readonly fence: bigint
  readonly lane: bigint
  readonly band: number
  readonly task: string
  readonly queue: string
  readonly priority: number
  readonly payload: string
  readonly format: number
  readonly attempt: number
  readonly losses: number
  readonly max_attempts: number
  readonly timeout_millis: number
  readonly at_most_once: boolean
  readonly traceparent: string | null
  readonly claimed_millis: number
  readonly waited_millis: number
  readonly run_seconds: number
  /** Some of what was found was left: a suspect goes alone, and payloads may be large. */
  readonly more: boolean
}

/** What every row of an owner holds. */
export type OwnedRow = Omit<ClaimedRow, "ord" | "lane" | "band" | "run_seconds" | "more">

/** The row as supervisors know it. */
export const toClaimed = (row: OwnedRow): Claimed => ({
  id: row.id,
  fence: Number(row.fence),
  task: row.task,
  queue: row.queue,
  priority: row.priority,
  payload: row.payload,
  format: row.format,
  attempt: row.attempt,
  losses: row.losses,
  maxAttempts: row.max_attempts,
  timeoutMillis: row.timeout_millis,
  atMostOnce: row.at_most_once,
  traceparent: Option.fromNullOr(row.traceparent),
  claimedAtMillis: row.claimed_millis,
  waitedMillis: Math.max(0, row.waited_millis)
})

/** Whether a lane may have more in one of its bands than its limit let through. */
const isCut = (taken: ReadonlyArray<ClaimedRow>, limits: ReadonlyMap<bigint, number>): boolean => {
  const counts = new Map<string, number>()
  for (const { band, lane } of taken) {
    const line = `${lane}/${band}`
    const count = (counts.get(line) ?? 0) + 1
    if (count >= limits.get(lane)!) return true
    counts.set(line, count)
  }
  return false
}

export const makeClaim = (store: Store, floors: Floors) => {
  const { s, sql } = store

  /** One look, from the floors up. */
  const look = (
    supervisor: SupervisorId,
    limits: ReadonlyMap<bigint, number>,
    limit: number,
    fromBottom: boolean
  ): Effect.Effect<ReadonlyArray<ClaimedRow>, SqlError> => {
    const lanes = [...limits.keys()]
    const pairs = floors.pairs(lanes)
    const era = floors.era()
    const began = performance.now()
    const rows = store.answered(
      sql<ClaimedRow>`
      SELECT * FROM ${s}.claim(
        ${supervisor},
        ${arrays.int8(pairs.map(({ lane }) => lane))},
        ${arrays.int2(pairs.map(({ band }) => band))},
        ${arrays.float8(pairs.map(({ floor }) => floor.seconds))},
        ${arrays.uuid(pairs.map(({ floor }) => floor.id))},
        ${arrays.int4(pairs.map(({ lane }) => limits.get(lane)!))},
        ${limit}, ${suspectLosses}, ${maxClaimBytes}
      )
      ORDER BY ord
    `,
      { characters: maxClaimBytes }
    )
    return Effect.map(rows, ([header, ...taken]) => {
      // Without a header the supervisor is not alive, which tells nothing of the lanes.
      if (header === undefined) return taken
      const all = taken.length < limit && taken[0]?.more !== true && !isCut(taken, limits)
      floors.raise({ era, lanes, taken, all, fromBottom, began, clock: header.run_seconds })
      return taken
    })
  }

  return (options: {
    readonly supervisor: SupervisorId
    readonly lanes: ReadonlyArray<ClaimLane>
    readonly limit: number
  }): Effect.Effect<ReadonlyArray<Claimed>, BrokerError> =>
    Effect.suspend(() => {
      const { supervisor } = options
      const limit = Math.floor(options.limit)
      if (limit <= 0 || options.lanes.length === 0 || !isUuid(supervisor)) return Effect.succeed([])
      const limits = new Map(
        options.lanes.map((lane) => [laneId(lane), Math.max(0, Math.min(limit, Math.floor(lane.limit ?? limit)))])
      )
      const fromBottom = floors.begin(false)
      return Effect.flatMap(look(supervisor, limits, limit, fromBottom), (taken) =>
        taken.length === 0 && !fromBottom && floors.begin(true)
          ? look(supervisor, limits, limit, true)
          : Effect.succeed(taken)).pipe(
          Effect.map((taken) =>
            taken.map(toClaimed)
          ),
          Effect.mapError(unavailable("claim"))
        )
    })
}

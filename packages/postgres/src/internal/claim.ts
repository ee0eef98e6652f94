/** Claim: due executions of these lanes, each with a new fence. */
import type { Claimed, Lane, SupervisorId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { suspectLosses } from "@effect-ray/core/Outcome"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { laneId } from "./lanes.ts"
import type { Local } from "./local.ts"
import { unavailable } from "./sqlFailure.ts"
import { arrays, isUuid, nil, type Store } from "./store.ts"

/** The bands of a lane are the priorities. */
const bands = Array.from({ length: 10 }, (_, band) => band)

/** How often a claim looks at everything, floors or not: commits that came late, and what others handed back. */
const rescanInterval = 2_000

/** A floor stays this far behind the clock, in seconds, so that commits need not come in the order of their times. */
const slack = 1

/** Where a lane's band begins: what lies before was claimed. */
interface Floor {
  readonly seconds: number
  readonly id: string
}

/** A row in a supervisor's hands, as the claim answers it. */
export interface ClaimedRow {
  readonly ord: number
  readonly id: string
  readonly fence: bigint
  readonly lane: bigint
  readonly band: number
  readonly task: string
  readonly queue: string
  readonly payload: string
  readonly format: number
  readonly attempt: number
  readonly losses: number
  readonly max_attempts: number
  readonly timeout_millis: number
  readonly at_most_once: boolean
  readonly traceparent: string | null
  readonly waited_millis: number
  readonly run_seconds: number
}

/** The row as supervisors know it. */
export const toClaimed = (row: Omit<ClaimedRow, "ord" | "lane" | "band" | "run_seconds">): Claimed => ({
  id: row.id,
  fence: Number(row.fence),
  task: row.task,
  queue: row.queue,
  payload: row.payload,
  format: row.format,
  attempt: row.attempt,
  losses: row.losses,
  maxAttempts: row.max_attempts,
  timeoutMillis: row.timeout_millis,
  atMostOnce: row.at_most_once,
  traceparent: Option.fromNullOr(row.traceparent),
  waitedMillis: Math.max(0, row.waited_millis)
})

export const makeClaim = (store: Store, local: Local) => {
  const { s, sql } = store
  const floors = new Map<bigint, Array<Floor | undefined>>()
  let scanned = 0

  local.onAgain = () => floors.clear()

  /** One look, from the floors up. */
  const look = (supervisor: SupervisorId, lanes: ReadonlyArray<bigint>, limit: number) => {
    const pairs = lanes.flatMap((lane) => bands.map((band) => ({ lane, band, floor: floors.get(lane)?.[band] })))
    return sql<ClaimedRow>`
      SELECT * FROM ${s}.claim(
        ${supervisor},
        ${arrays.int8(pairs.map(({ lane }) => lane))},
        ${arrays.int2(pairs.map(({ band }) => band))},
        ${arrays.float8(pairs.map(({ floor }) => floor?.seconds ?? -Infinity))},
        ${arrays.uuid(pairs.map(({ floor }) => floor?.id ?? nil))},
        ${limit}, ${suspectLosses}
      )
      ORDER BY ord
    `
  }

  /** Rows come oldest first within lane and band, so the last of each pair raises its floor. */
  const raise = (rows: ReadonlyArray<ClaimedRow>): void => {
    for (const row of rows) {
      const newest = row.run_seconds + row.waited_millis / 1000 - slack
      const floor = row.run_seconds < newest ? { seconds: row.run_seconds, id: row.id } : { seconds: newest, id: nil }
      const ofLane = floors.get(row.lane) ?? []
      ofLane[row.band] = floor
      floors.set(row.lane, ofLane)
    }
  }

  return (options: {
    readonly supervisor: SupervisorId
    readonly lanes: ReadonlyArray<Lane>
    readonly limit: number
  }): Effect.Effect<ReadonlyArray<Claimed>, BrokerError> =>
    Effect.gen(function*() {
      const limit = Math.floor(options.limit)
      if (limit <= 0 || options.lanes.length === 0 || !isUuid(options.supervisor)) return []
      const lanes = [...new Set(options.lanes.map(laneId))]
      const now = performance.now()
      if (now - scanned > rescanInterval) {
        scanned = now
        floors.clear()
      }
      const floored = floors.size > 0
      let rows = yield* look(options.supervisor, lanes, limit)
      if (rows.length === 0 && floored) {
        // Nothing above the floors: before saying that there is nothing, look below.
        scanned = now
        floors.clear()
        rows = yield* look(options.supervisor, lanes, limit)
      }
      raise(rows)
      return rows.map(toClaimed)
    }).pipe(Effect.mapError(unavailable("claim")))
}

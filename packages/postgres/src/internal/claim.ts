/** Claims due executions of lanes, each with a new fence. */
import type { Broker, Claimed, SupervisorId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { ageMillis, isUuid } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import { suspectLosses } from "@effect-ray/core/Outcome"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Floors } from "./floors.ts"
import { laneId } from "./lanes.ts"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { isReadable, type OwnedRow, type SetAside, tellSetAside, toClaimed } from "./rows.ts"
import { isBadValue, unavailable } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** The most bytes of payload that one claim takes, unless the first execution alone has more. */
const maxClaimBytes = 16 * 1024 * 1024

/** The largest payload that a response can carry with the rest of its row. More than can be enqueued. */
const maxRowBytes = 15 * 1024 * 1024

interface ClaimedRow extends OwnedRow {
  readonly ord: number
  readonly lane: bigint
  readonly run_seconds: number
}

/** Row 0: the supervisor is alive, the time, and whether due executions were left behind. */
interface Header {
  readonly run_seconds: number
  readonly is_left: boolean
}

/** Whether a lane may have more executions in one of its priorities than its limit allowed. */
const isCut = (taken: ReadonlyArray<ClaimedRow>, limits: ReadonlyMap<bigint, number>): boolean => {
  const counts = new Map<string, number>()
  for (const { priority, lane } of taken) {
    const line = `${lane}/${priority}`
    const count = (counts.get(line) ?? 0) + 1
    if (count >= limits.get(lane)!) return true
    counts.set(line, count)
  }
  return false
}

export const makeClaim = (
  store: Store,
  floors: Floors,
  notifier: Notifier,
  partitions: Partitions,
  setAside: SetAside
) => {
  const { s } = store

  /** One search, upwards from the floors. */
  const look = (
    supervisor: SupervisorId,
    limits: ReadonlyMap<bigint, number>,
    limit: number,
    waitedMillis: number,
    fromBottom: boolean
  ): Effect.Effect<ReadonlyArray<ClaimedRow>, SqlError> => {
    const lanes = [...limits.keys()]
    const pairs = floors.pairs(lanes)
    const era = floors.era()
    const began = performance.now()
    const rows = store.own(
      (sql) =>
        sql<ClaimedRow & Header>`
      SELECT * FROM ${s}.claim(
        ${supervisor},
        ${arrays.int8(pairs.map(({ lane }) => lane))},
        ${arrays.int2(pairs.map(({ priority }) => priority))},
        ${arrays.float8(pairs.map(({ floor }) => floor.seconds))},
        ${arrays.uuid(pairs.map(({ floor }) => floor.id))},
        ${arrays.int4(pairs.map(({ lane }) => limits.get(lane)!))},
        ${limit}, ${suspectLosses}, ${maxClaimBytes}, ${waitedMillis}
      )
      ORDER BY ord
    `,
      { characters: maxClaimBytes }
    )
    return Effect.map(rows, ([header, ...taken]) => {
      // Without a header the supervisor is not alive, which says nothing about the lanes.
      if (header === undefined) return taken
      // Nothing is known about executions that have not waited as long.
      const all = waitedMillis === 0 && taken.length < limit && !header.is_left && !isCut(taken, limits)
      floors.raise({ era, lanes, taken, all, fromBottom, began, clock: header.run_seconds })
      return taken
    })
  }

  /**
   * Ends as failed what no claim can take, and returns how many. If something had been taken and only the response was
   * lost, `owned` finds it.
   */
  const clear = (
    supervisor: SupervisorId,
    limits: ReadonlyMap<bigint, number>,
    limit: number
  ): Effect.Effect<number, SqlError> =>
    partitions.filing(store.own((sql) =>
      sql<Woken & { readonly set_aside: ReadonlyArray<string> | null }>`
        SELECT * FROM ${s}.set_aside(
          ${supervisor}, ${arrays.int8([...limits.keys()])}, ${arrays.int4([...limits.values()])},
          ${limit}, ${maxRowBytes}, ${Endings.unreadable}
        )
      `
    )).pipe(
      Effect.tap(([row]) => tellSetAside(row!.set_aside ?? [])),
      Effect.map(([row]) => {
        notifier.woken(row!)
        return row!.set_aside?.length ?? 0
      })
    )

  const take = (
    supervisor: SupervisorId,
    limits: ReadonlyMap<bigint, number>,
    limit: number,
    waitedMillis: number
  ): Effect.Effect<ReadonlyArray<ClaimedRow>, SqlError> => {
    const fromBottom = floors.begin(false)
    return Effect.flatMap(
      look(supervisor, limits, limit, waitedMillis, fromBottom),
      (taken) =>
        taken.length === 0 && !fromBottom && floors.begin(true)
          ? look(supervisor, limits, limit, waitedMillis, true)
          : Effect.succeed(taken)
    )
  }

  return (
    options: Parameters<Broker["Service"]["claim"]>[0]
  ): Effect.Effect<ReadonlyArray<Claimed>, BrokerError> =>
    Effect.suspend(() => {
      const { supervisor } = options
      const limit = Math.floor(options.limit)
      if (limit <= 0 || options.lanes.length === 0 || !isUuid(supervisor)) return Effect.succeed([])
      const limits = new Map(
        options.lanes.map((lane) => [laneId(lane), Math.max(0, Math.min(limit, Math.floor(lane.limit ?? limit)))])
      )
      const waitedMillis = ageMillis(options.waited ?? Duration.zero)
      return take(supervisor, limits, limit, waitedMillis).pipe(
        Effect.catchIf(isBadValue, (error) =>
          Effect.flatMap(
            clear(supervisor, limits, limit),
            (cleared) => cleared > 0 ? take(supervisor, limits, limit, waitedMillis) : Effect.fail(error)
          )),
        Effect.tap((taken) => setAside(supervisor, taken.filter((row) => !isReadable(row)))),
        Effect.map((taken) => taken.filter(isReadable).map(toClaimed)),
        Effect.mapError(unavailable("claim"))
      )
    })
}

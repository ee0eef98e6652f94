/** Rows that a supervisor owns: their content, and what to do with those that cannot be read. */
import type { Claimed, SupervisorId } from "@effect-ray/core/Broker"
import { maxMillis } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { arrays, type Store } from "./store.ts"

/** The content of every owned row. */
export interface OwnedRow {
  readonly id: string
  readonly fence: bigint
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
}

/**
 * Whether everything used in arithmetic is a valid number. The table's constraints ensure that, where they are in
 * force.
 */
export const isReadable = (row: OwnedRow): boolean =>
  Number.isSafeInteger(Number(row.fence)) && row.timeout_millis > 0 && row.timeout_millis <= maxMillis

/** The row as a claimed execution. */
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

/** A row's id and fence, which can always be read. */
export type Named = Pick<OwnedRow, "id" | "fence">

/** Logs which executions were ended as failed because of the content of their rows. */
export const tellSetAside = (ids: ReadonlyArray<string>): Effect.Effect<void> =>
  ids.length === 0
    ? Effect.void
    : Effect.annotateLogs(Effect.logError("executions whose rows cannot be read were ended as failed"), {
      executions: ids
    })

/** Ends as failed what a supervisor owns and cannot read. */
export const makeSetAside = (store: Store, notifier: Notifier, partitions: Partitions) => {
  const { s } = store
  return (supervisor: SupervisorId, rows: ReadonlyArray<Named>): Effect.Effect<void, SqlError> => {
    if (rows.length === 0) return Effect.void
    const each = <A>(value: A) => rows.map(() => value)
    const asked = store.own((sql) =>
      sql<Woken>`
        SELECT * FROM ${s}.settle(
          ${supervisor}, ${arrays.uuid(rows.map(({ id }) => id))}, ${arrays.int8(rows.map(({ fence }) => fence))},
          ${arrays.text(each("failed"))}, ${arrays.text(each(Endings.unreadable))}, ${arrays.float8(each(0))},
          ${arrays.bool(each(true))}, ${arrays.text(each(null))}, ${Endings.cancelled}, ${Endings.unconfirmed}, true
        )
      `
    )
    return Effect.tap(
      Effect.map(partitions.filing(asked), ([row]) => notifier.woken(row!)),
      tellSetAside(rows.map(({ id }) => id))
    )
  }
}

export type SetAside = ReturnType<typeof makeSetAside>

/** Reads executions, whether they have ended or not. */
import type { AttemptRecord, ExecutionId, Record, State } from "@effect-ray/core/Broker"
import { maxAttemptsRead } from "@effect-ray/core/Broker"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { Ask } from "./ask.ts"
import { arrays, type Store } from "./store.ts"

interface RecordRow {
  readonly id: string
  readonly task: string
  readonly queue: string
  readonly state: State
  readonly priority: number
  readonly payload: string
  readonly format: number
  readonly attempts: number
  readonly losses: number
  readonly fence: bigint
  readonly tags: Readonly<globalThis.Record<string, string>> | null
  readonly enqueued_at: Date
  readonly run_at: Date
  readonly ended_at: Date | null
  readonly held: string | null
  readonly result: string | null
  /** Whether the response could not carry it beside the others. */
  readonly left_out: boolean
}

const toRecord = (row: RecordRow): Record => ({
  id: row.id,
  task: row.task,
  queue: row.queue,
  state: row.state,
  priority: row.priority,
  payload: row.payload,
  format: row.format,
  attempts: row.attempts,
  losses: row.losses,
  fence: Number(row.fence),
  tags: row.tags ?? {},
  enqueuedAt: DateTime.fromDateUnsafe(row.enqueued_at),
  runAt: DateTime.fromDateUnsafe(row.run_at),
  finishedAt: Option.map(Option.fromNullOr(row.ended_at), DateTime.fromDateUnsafe),
  held: Option.fromNullOr(row.held),
  result: Option.fromNullOr(row.result)
})

export const isTerminal = (record: Record): boolean => Option.isSome(record.result)

/** The most bytes of payloads and results in one response, unless one record alone has more. */
const maxBytes = 16 * 1024 * 1024

/** The records of these ids, without those that are unknown. */
export const find = (
  store: Store,
  ask: Ask,
  ids: ReadonlyArray<ExecutionId>
): Effect.Effect<ReadonlyArray<Record>, SqlError> => {
  const { s } = store
  const asked = ask((sql) => sql<RecordRow>`SELECT * FROM ${s}.find(${arrays.uuid(ids)}, ${maxBytes})`, {
    characters: maxBytes
  })
  return Effect.flatMap(asked, (rows) => {
    const records = rows.filter((row) => !row.left_out).map(toRecord)
    if (records.length === rows.length) return Effect.succeed(records)
    const left = find(store, ask, rows.filter((row) => row.left_out).map(({ id }) => id))
    return Effect.map(left, (others) => [...records, ...others])
  })
}

interface AttemptRow {
  readonly fence: bigint
  readonly attempt: number
  readonly outcome: AttemptRecord["outcome"]
  readonly claimed_at: Date
  readonly ended_at: Date
  readonly result: string | null
  readonly place: string | null
  readonly confirmed: boolean
}

/** The ended attempts of an execution: the earlier ones, and the last, which history keeps in its own row. */
export const attempts = (
  store: Store,
  ask: Ask,
  id: ExecutionId
): Effect.Effect<ReadonlyArray<AttemptRecord>, SqlError> => {
  if (!isUuid(id)) return Effect.succeed([])
  const { s } = store
  const rows = ask(
    (sql) => sql<AttemptRow>`SELECT * FROM ${s}.attempts_of(${id}, ${maxAttemptsRead}, ${maxBytes})`,
    { characters: maxBytes }
  )
  return Effect.map(rows, (rows) =>
    rows.map((row) => ({
      execution: id,
      fence: Number(row.fence),
      attempt: row.attempt,
      outcome: row.outcome,
      claimedAt: DateTime.fromDateUnsafe(row.claimed_at),
      endedAt: DateTime.fromDateUnsafe(row.ended_at),
      result: Option.fromNullOr(row.result),
      place: Option.fromNullOr(row.place),
      confirmed: row.confirmed
    })))
}

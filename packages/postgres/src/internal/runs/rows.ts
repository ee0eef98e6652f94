/** Rows of runs, as the schema's functions return them. */
import { storedMillis } from "@effect-ray/core/BrokerInput"
import type { Activation, NewRun, RunStore, Unread } from "@effect-ray/core/RunStore"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import { retryTransient } from "../sqlFailure.ts"
import { arrays, type Store } from "../store.ts"

export type JournalEntry = Parameters<RunStore["Service"]["commit"]>[1]["entries"][number]

/** The most messages of an inbox in one response. The rest is returned by later commits. */
export const maxUnread = 1_000

/** The most bytes of their values in one row of a response. Longer ones are read alone. */
export const maxUnreadBytes = 2 * 1024 * 1024

/** The same for a response that has the messages of many inboxes in one row. */
export const maxUnreadOfMany = 100
export const maxUnreadBytesOfMany = 8 * 1024

export interface RunRow {
  readonly id: string
  readonly name: string
  readonly workflow: string
  readonly payload: string
  readonly format: number
  readonly fence: bigint
  readonly link: number
  readonly length: number
  readonly unread: string | null
  readonly started_millis: number
  readonly expires_millis: number | null
  readonly now_millis: number
  readonly traceparent: string | null
}

/** The row as a claimed run. */
export const toActivation = (store: Store, row: RunRow): Effect.Effect<Activation, SqlError> =>
  Effect.map(readUnread(store, row.id, row.unread), (unread) => ({
    id: row.id,
    name: row.name,
    workflow: row.workflow,
    payload: row.payload,
    format: row.format,
    fence: Number(row.fence),
    link: row.link,
    length: row.length,
    unread,
    startedAtMillis: row.started_millis,
    expiresAtMillis: Option.fromNullOr(row.expires_millis),
    nowMillis: row.now_millis,
    traceparent: Option.fromNullOr(row.traceparent)
  }))

/** A message as `unread_of` returns it, perhaps without its value. */
type Message = readonly [id: number, key: string, value: string | null, atMillis: number]

const none: ReadonlyArray<Unread> = []

/** The messages of an inbox. Values that were left out are read one by one. */
export const readUnread = (
  store: Store,
  run: string,
  json: string | null
): Effect.Effect<ReadonlyArray<Unread>, SqlError> => {
  if (json === null) return Effect.succeed(none)
  return Effect.forEach(
    JSON.parse(json) as ReadonlyArray<Message>,
    ([id, key, value, atMillis]) =>
      Effect.map(value === null ? readValue(store, run, id) : Effect.succeed(value), (value) => ({
        id,
        key,
        value,
        atMillis
      }))
  )
}

const readValue = (store: Store, run: string, id: number): Effect.Effect<string, SqlError> =>
  Effect.map(
    retryTransient(store.own((sql) =>
      sql<{ readonly value: string }>`
        SELECT v.value FROM ${store.s}.values_of(${run}, ${arrays.int8([BigInt(id)])}) v
      `, { characters: 8 * 1024 * 1024 })),
    // Only the run's owner deletes messages, and that is who reads it.
    ([row]) => row?.value ?? "null"
  )

/** How long a run may take, in milliseconds; null if it has no limit. */
export const timeoutOf = ({ timeout }: NewRun): number | null => Option.getOrNull(Option.map(timeout, storedMillis))

/** An entry of a packed journal. */
interface Packed {
  readonly key: string
  readonly outside: boolean
  readonly value: string
  readonly at: number
}

export const pack = (entries: ReadonlyArray<Omit<JournalEntry, "message">>): string =>
  JSON.stringify(entries.map(({ atMillis, key, source, value }): Packed => ({
    key,
    outside: source === "outside",
    value,
    at: atMillis
  })))

export const unpack = (json: string) =>
  (JSON.parse(json) as ReadonlyArray<Packed>).map(({ at, key, outside, value }) => ({
    key,
    source: outside ? "outside" as const : "run" as const,
    value,
    atMillis: at
  }))

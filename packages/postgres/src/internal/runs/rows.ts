/** Rows of runs, as the schema's functions return them. */
import type { Activation, RunStore, Unread } from "@effect-ray/core/RunStore"
import * as Option from "effect/Option"

export type JournalEntry = Parameters<RunStore["Service"]["commit"]>[1]["entries"][number]

/** The most messages of an inbox in one response. The rest is returned by later commits. */
export const maxUnread = 1_000

export interface RunRow {
  readonly id: string
  readonly name: string
  readonly workflow: string
  readonly payload: string
  readonly format: number
  readonly fence: bigint
  readonly length: number
  readonly unread: string | null
  readonly started_millis: number
  readonly now_millis: number
  readonly traceparent: string | null
}

export const toActivation = (row: RunRow): Activation => ({
  id: row.id,
  name: row.name,
  workflow: row.workflow,
  payload: row.payload,
  format: row.format,
  fence: Number(row.fence),
  length: row.length,
  unread: toUnread(row.unread),
  startedAtMillis: row.started_millis,
  nowMillis: row.now_millis,
  traceparent: Option.fromNullOr(row.traceparent)
})

export const toUnread = (json: string | null): ReadonlyArray<Unread> =>
  json === null
    ? []
    : (JSON.parse(json) as ReadonlyArray<readonly [number, string, string, number]>).map((
      [id, key, value, atMillis]
    ) => ({
      id,
      key,
      value,
      atMillis
    }))

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

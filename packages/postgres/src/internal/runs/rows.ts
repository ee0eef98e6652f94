/** Rows of runs, as the schema's functions return them. */
import { storedMillis } from "@effect-ray/core/BrokerInput"
import type { Activation, NewRun, RunStore, Unread } from "@effect-ray/core/RunStore"
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
  readonly link: number
  readonly length: number
  readonly unread: string | null
  readonly started_millis: number
  readonly expires_millis: number | null
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
  link: row.link,
  length: row.length,
  unread: toUnread(row.unread),
  startedAtMillis: row.started_millis,
  expiresAtMillis: Option.fromNullOr(row.expires_millis),
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

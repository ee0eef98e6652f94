/**
 * What the memory stores share: one broker and one store of runs work on the same rows.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { ExecutionId, Lane, SupervisorId } from "../../Broker.ts"
import { type Message, releases, type Unread } from "../../RunStore.ts"
import { isOver, makeLines, type Row, toRecord } from "../ledger.ts"
import { type Bell, makeBell } from "../wakeups.ts"

export interface Supervisor {
  expiresAt: number
  readonly lanes: ReadonlyArray<Lane>
  readonly owned: Set<Row>
  /** Why it does not claim from a lane, by the lane's name. */
  readonly holds: Map<string, Hold>
}

export interface Hold {
  readonly reason: string
  /**
   * Since when every supervisor of the lane has been failing, as far as the holder knows; undefined while it is not
   * failing.
   */
  failingSince: number | undefined
}

export interface Key {
  readonly row: Row
  /** The text by which its payload is compared. */
  readonly identity: string
  /** Infinity: as long as the record is kept. */
  readonly expiresAt: number
}

export interface Store {
  readonly rows: Map<ExecutionId, Row>
  readonly lines: ReturnType<typeof makeLines>
  readonly keys: Map<string, Key>
  readonly supervisors: Map<SupervisorId, Supervisor>
  /** Rows that may still expire. */
  readonly expiring: Set<Row>
  readonly bell: Bell
  /** Paused queues and tasks, by `pauseOf`. */
  readonly pauses: Set<string>
  /** When the next turn of each duty can be taken, by the duty's name. */
  readonly turns: Map<string, number>
  /** Messages that runs have not read, oldest first. A run need not exist yet. */
  readonly inboxes: Map<ExecutionId, Array<Unread>>
  /** How many messages have been sent. */
  sent: number
}

export const makeStore = (): Store => ({
  rows: new Map(),
  lines: makeLines(),
  keys: new Map(),
  supervisors: new Map(),
  expiring: new Set(),
  bell: makeBell(),
  turns: new Map(),
  pauses: new Set(),
  inboxes: new Map(),
  sent: 0
})

/** The store of a broker and a store of runs that belong together. */
export class MemoryStore extends Context.Service<MemoryStore, Store>()("@effect-ray/core/internal/memory/MemoryStore") {
  static readonly layer = Layer.sync(MemoryStore, makeStore)
}

/** Runs one verb without interleaving, at one reading of the caller's clock. */
export const atOnce = <A>(verb: (now: number) => A): Effect.Effect<A> =>
  Clock.clockWith((clock) => Effect.sync(() => verb(clock.currentTimeMillisUnsafe())))

export const nameOf = ({ queue, task }: Lane): string => `${queue}\u0000${task}`

export const requeue = (store: Store, row: Row, delayMillis: number | undefined, now: number): void => {
  row.state = "queued"
  row.fence += 1
  if (delayMillis !== undefined) row.runAt = now + delayMillis
  store.lines.push(row)
  store.bell.ring(row.execution.queue, { _tag: "Enqueued", queue: row.execution.queue })
}

export const finish = (store: Store, row: Row, state: Row["state"], result: string, now: number): void => {
  row.state = state
  row.result = result
  row.finishedAt = now
  store.expiring.delete(row)
  Deferred.doneUnsafe(row.ended, Effect.succeed(toRecord(row)))
  for (const run of row.tells) send(store, { run, key: `end:${row.execution.id}`, value: result }, now)
}

/** When a run continues that waits for a message only: the latest date of JavaScript. */
export const never = 8.64e15

/** How much longer than others the process that may have a run in memory has to claim it, in milliseconds. */
const homeAhead = 20

/** Appends a message to a run's inbox, and wakes the run. */
export const send = (store: Store, { key, run, value }: Message, now: number): void => {
  const row = store.rows.get(run)
  if (row !== undefined && (row.run === undefined || isOver(row))) return
  const inbox = store.inboxes.get(run) ?? []
  store.inboxes.set(run, inbox)
  inbox.push({ id: ++store.sent, key, value, atMillis: now })
  if (row !== undefined) wake(store, row, now)
}

/** Makes a run look at its inbox. */
export const wake = (store: Store, row: Row, now: number): void => {
  const run = row.run!
  if (row.state === "waiting") {
    if (run.held !== undefined && !store.inboxes.get(row.execution.id)!.some(({ key }) => isRelease(key))) return
    run.held = undefined
    row.state = "queued"
    const home = run.home === undefined ? undefined : store.supervisors.get(run.home)
    row.runAt = now + (home !== undefined && home.expiresAt > now ? homeAhead : 0)
    store.lines.push(row)
    store.bell.ring(row.execution.queue, { _tag: "Enqueued", queue: row.execution.queue })
  }
  if (run.home !== undefined) store.bell.ring(row.execution.queue, { _tag: "Woken", ids: [row.execution.id] })
}

/** Whether a message continues a run that waits for a person. */
const isRelease = (key: string): boolean => releases.includes(key)

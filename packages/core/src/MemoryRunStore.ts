/**
 * A store of runs for one process: tests, scripts, and trying things out.
 *
 * It shares its rows with a memory broker, which `layer` provides too, and keeps every promise of `RunStore` except
 * durability. Time is Effect's `Clock`.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Broker, SupervisorId } from "./Broker.ts"
import { defaultPriority } from "./Broker.ts"
import type { BrokerError } from "./BrokerError.ts"
import { printable, storedMillis } from "./BrokerInput.ts"
import * as Envelope from "./Envelope.ts"
import { isOver, makeRow, type Row, type RunPart } from "./internal/ledger.ts"
import { atOnce, finish, MemoryStore, never, send, type Store } from "./internal/memory/store.ts"
import { maxDetailLength } from "./Limits.ts"
import * as MemoryBroker from "./MemoryBroker.ts"
import * as RunInput from "./RunInput.ts"
import {
  type Activation,
  type Commit,
  type Committed,
  laneOf,
  maxLoaded,
  type NewRun,
  type Next,
  RunStore,
  type RunId,
  type Started,
  type Told,
  type Unread
} from "./RunStore.ts"

const make = Effect.map(MemoryStore, (store) =>
  RunStore.of({
    isInTransaction: Effect.succeed(false),
    start: (run, { messages, owner }) => {
      const sent = messages.map((message) => ({ ...message, run: run.id }))
      return unless(
        RunInput.checkRun(run) ?? RunInput.checkMessages(sent),
        atOnce((now) => {
          for (const message of sent) send(store, message, now)
          return start(store, run, owner, now)
        })
      )
    },
    claim: (options) => atOnce((now) => claim(store, options, now)),
    owned: (supervisor) =>
      atOnce((now) =>
        Array.from(store.supervisors.get(supervisor)?.owned ?? []).flatMap((row) =>
          row.run === undefined ? [] : [activationOf(store, row, row.run, now)]
        )
      ),
    load: (run, after) => Effect.sync(() => load(store, run, after)),
    tell: (run) => Effect.sync(() => tell(store, run)),
    commit: (supervisor, item) =>
      unless(RunInput.checkCommit(item), atOnce((now) => commit(store, supervisor, item, now))),
    terminate: (run, result) => atOnce((now) => terminate(store, run, result, now)),
    send: (messages) =>
      unless(
        RunInput.checkMessages(messages),
        atOnce((now) => {
          for (const message of messages) send(store, message, now)
        })
      )
  }))

/**
 * A store of runs, and the broker over the same rows. Each build has rows of its own.
 *
 * @category layers
 */
export const layer: Layer.Layer<RunStore | Broker> = Layer.suspend(() =>
  Layer.merge(Layer.effect(RunStore, make), MemoryBroker.layerShared).pipe(Layer.provide(MemoryStore.layer))
)

const unless = <A>(error: BrokerError | undefined, verb: Effect.Effect<A>): Effect.Effect<A, BrokerError> =>
  error === undefined ? verb : Effect.fail(error)

const start = (store: Store, run: NewRun, owner: Option.Option<SupervisorId>, now: number): Started => {
  if (store.rows.has(run.id)) return { _tag: "Exists" }
  const part: RunPart = {
    name: run.name,
    payload: run.payload,
    journal: [],
    link: 1,
    beganAt: now,
    expiresAt: Option.match(run.timeout, { onNone: () => Infinity, onSome: (timeout) => now + storedMillis(timeout) }),
    held: undefined,
    home: undefined
  }
  const row = makeRow(
    {
      id: run.id,
      ...laneOf(run.workflow),
      priority: defaultPriority,
      payload: run.payload,
      format: Envelope.format,
      due: { _tag: "Now" },
      maxAttempts: 1,
      timeout: Duration.infinity,
      startBy: Option.none(),
      idempotencyKey: Option.none(),
      atMostOnce: false,
      tags: {},
      traceparent: run.traceparent
    },
    { arrival: store.rows.size, now, runAt: now, startBy: undefined },
    part
  )
  store.rows.set(run.id, row)
  if (Option.isSome(owner) && isAlive(store, owner.value, now)) {
    take(store, row, part, owner.value, now)
    return { _tag: "Owned", fence: row.fence, nowMillis: now }
  }
  store.lines.push(row)
  store.bell.ring(row.execution.queue, { _tag: "Enqueued", queue: row.execution.queue })
  return { _tag: "Stored" }
}

const isAlive = (store: Store, supervisor: SupervisorId, now: number): boolean =>
  (store.supervisors.get(supervisor)?.expiresAt ?? now) > now

const take = (store: Store, row: Row, run: RunPart, supervisor: SupervisorId, now: number): void => {
  row.state = "running"
  row.owner = supervisor
  row.fence += 1
  row.claimedAt = now
  run.home = supervisor
  store.supervisors.get(supervisor)!.owned.add(row)
}

const claim = (
  store: Store,
  options: Parameters<RunStore["Service"]["claim"]>[0],
  now: number
): ReadonlyArray<Activation> => {
  const { ids, limit, supervisor, workflows } = options
  if (!isAlive(store, supervisor, now)) return []
  const most = Math.floor(limit)
  const claimed: Array<Activation> = []
  const takeOne = (row: Row): void => {
    const run = row.run!
    take(store, row, run, supervisor, now)
    claimed.push(activationOf(store, row, run, now))
  }
  if (ids !== undefined) {
    for (const id of new Set(ids)) {
      const row = store.rows.get(id)
      if (row?.run === undefined || claimed.length >= most || row.run.held !== undefined) continue
      if (row.state === "queued" || row.state === "waiting") takeOne(row)
    }
    return claimed
  }
  const lanes = workflows.map(laneOf)
  while (claimed.length < most) {
    const row = store.lines.first(lanes, now, () => true)
    if (row === undefined) break
    takeOne(row)
  }
  return claimed
}

const activationOf = (store: Store, row: Row, run: RunPart, now: number): Activation => ({
  id: row.execution.id,
  name: run.name,
  workflow: row.execution.task,
  payload: run.payload,
  format: row.execution.format,
  fence: row.fence,
  link: run.link,
  length: run.journal.length,
  unread: unreadOf(store, row.execution.id),
  startedAtMillis: run.beganAt,
  expiresAtMillis: Number.isFinite(run.expiresAt) ? Option.some(run.expiresAt) : Option.none(),
  nowMillis: now,
  traceparent: row.execution.traceparent
})

const tell = (store: Store, id: RunId): Option.Option<Told> => {
  const row = store.rows.get(id)
  if (row?.run === undefined) return Option.none()
  const { format, task } = row.execution
  const { beganAt, link, name, payload } = row.run
  return Option.some({
    id,
    name,
    workflow: task,
    payload,
    format,
    link,
    startedAtMillis: beganAt,
    entries: [...row.run.journal]
  })
}

const unreadOf = (store: Store, id: RunId): ReadonlyArray<Unread> => [...store.inboxes.get(id) ?? []]

const load = (store: Store, id: RunId, after: number) => {
  const row = store.rows.get(id)
  return row?.run === undefined || isOver(row) ? [] : row.run.journal.slice(Math.max(0, after), after + maxLoaded)
}

const lost: Committed = { _tag: "Lost" }

const commit = (store: Store, supervisor: SupervisorId, item: Commit, now: number): Committed => {
  const row = store.rows.get(item.run)
  const run = row?.run
  if (row === undefined || run === undefined || row.fence !== item.fence) return lost
  const done = (state: "running" | "waiting"): Committed => ({
    _tag: "Done",
    state,
    unread: unreadOf(store, item.run)
  })
  // The acknowledgement may have been lost. Each new owner has a new fence.
  if (isOver(row)) return run.home === supervisor ? { _tag: "Done", state: "over", unread: [] } : lost
  if (run.link !== item.link) {
    return run.link === item.link + 1 && item.next._tag === "Continued" && row.owner === supervisor
      ? done("running")
      : lost
  }
  const isRepeated = isRecorded(run, item)
  if (row.owner === undefined) return isRepeated && run.home === supervisor ? done("waiting") : lost
  if (row.owner !== supervisor || !(isRepeated || run.journal.length === item.length)) return lost
  if (!isRepeated || item.entries.length === 0) {
    append(store, run, item)
    for (const { detached, run: child } of item.children) {
      start(store, child, Option.none(), now)
      if (!detached) attach(store, item.run, child.id, now)
    }
    // The host has made them from definitions, and their ids are new.
    MemoryBroker.enqueue(store, item.tasks, now)
    for (const { id } of item.tasks) attach(store, item.run, id, now)
    for (const message of item.messages) send(store, message, now)
  }
  const state = next(store, row, run, item.next, now)
  return state === "over" ? { _tag: "Done", state, unread: [] } : done(state)
}

/** Whether the journal ends with what a commit appends. */
const isRecorded = ({ journal }: RunPart, { entries, length }: Commit): boolean =>
  journal.length === length + entries.length
  && entries.every(({ key }, index) => journal[length + index]!.key === key)

const append = (store: Store, run: RunPart, { entries, run: id }: Commit): void => {
  for (const { atMillis, key, source, value } of entries) run.journal.push({ key, source, value, atMillis })
  const moved = new Set(entries.map(({ message }) => message))
  const left = (store.inboxes.get(id) ?? []).filter((unread) => !moved.has(unread.id))
  if (left.length > 0) store.inboxes.set(id, left)
  else store.inboxes.delete(id)
}

/** The run gets a message when the execution ends, or now if it has ended. */
const attach = (store: Store, run: RunId, execution: RunId, now: number): void => {
  const row = store.rows.get(execution)!
  const key = `end:${execution}`
  if (!isOver(row)) row.tells.add(run)
  // A commit without entries may be a repetition.
  else if (!unreadOf(store, run).some((unread) => unread.key === key)) {
    send(store, { run, key, value: row.result! }, now)
  }
}

const next = (store: Store, row: Row, run: RunPart, next: Next, now: number): "running" | "waiting" | "over" => {
  const { id } = row.execution
  if (next._tag === "Over") {
    leave(store, row)
    finish(store, row, next.state, next.result, now)
    store.inboxes.delete(id)
    return "over"
  }
  row.losses = 0
  if (next._tag === "Continued") {
    run.payload = next.payload
    run.journal = [...next.carried]
    run.link += 1
    run.beganAt = now
    return "running"
  }
  if (next._tag === "Running" || store.inboxes.has(id)) return "running"
  leave(store, row)
  row.state = "waiting"
  run.held = Option.getOrUndefined(Option.map(next.held, (reason) => printable(reason, maxDetailLength)))
  row.runAt = Math.min(Math.max(0, Option.getOrElse(next.wakeAtMillis, () => never)), never)
  store.lines.push(row)
  return "waiting"
}

const terminate = (store: Store, id: RunId, result: string, now: number): boolean => {
  const row = store.rows.get(id)
  if (row?.run === undefined || isOver(row)) return false
  leave(store, row)
  finish(store, row, "terminated", result, now)
  store.inboxes.delete(id)
  // Its owner learns that it has lost the run.
  if (row.run.home !== undefined) store.bell.ring(row.execution.queue, { _tag: "Woken", ids: [id] })
  return true
}

const leave = (store: Store, row: Row): void => {
  if (row.owner === undefined) return
  store.supervisors.get(row.owner)?.owned.delete(row)
  row.owner = undefined
}

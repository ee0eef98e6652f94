/**
 * A broker for one process: tests, scripts, and trying things out.
 *
 * It keeps every promise of `Broker` except durability, and forgets nothing until its
 * layer is closed. Time is Effect's `Clock`, so a `TestClock` drives leases, delays
 * and expiry. Each verb is one synchronous step, so nothing runs in between.
 */
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import {
  Broker,
  type Claimed,
  type Due,
  type Duty,
  type Enqueued,
  type ExecutionId,
  type Lane,
  maxAttemptsRead,
  type Pausable,
  type NewExecution,
  type Settled,
  type Settlement,
  type SupervisorId,
  tellUnserved,
  type Tick
} from "./Broker.ts"
import { BrokerError, InvalidPayload, KeyConflict } from "./BrokerError.ts"
import * as BrokerInput from "./BrokerInput.ts"
import * as Endings from "./Endings.ts"
import * as Limits from "./Limits.ts"
import { isExpired, isHeld, isOver, makeRow, type Row, type RunPart, toRecord } from "./internal/ledger.ts"
import {
  atOnce,
  finish,
  type Key,
  MemoryStore,
  nameOf,
  never,
  requeue,
  send,
  type Store,
  type Supervisor
} from "./internal/memory/store.ts"
import { lapsed, left, resolve, type Verdict } from "./internal/verdict.ts"
import { maxLosses, Outcome, suspectLosses } from "./Outcome.ts"
import { queue as runQueue } from "./RunStore.ts"

/**
 * Each build of the layer has a store of its own.
 *
 * @category layers
 */
export const layer: Layer.Layer<Broker> = Layer.suspend(() => Layer.provide(layerShared, MemoryStore.layer))

/**
 * A broker over a store that it shares with `MemoryRunStore`.
 *
 * @internal
 */
export const layerShared: Layer.Layer<Broker, never, MemoryStore> = Layer.effect(
  Broker,
  Effect.map(MemoryStore, (store) => {
    const duties: ReadonlyArray<Duty> = [
      { name: "reap", interval: Duration.seconds(1), perform: Effect.as(atOnce((now) => reap(store, now)), false) },
      {
        name: "expire",
        interval: Duration.seconds(1),
        perform: Effect.as(atOnce((now) => expireAll(store, now)), false)
      }
    ]
    return Broker.of({
      enqueue: (executions) => Effect.flatMap(atOnce((now) => enqueue(store, executions, now)), Effect.fromResult),
      read: (id) =>
        Effect.sync(() =>
          Option.map(Option.fromUndefinedOr(store.rows.get(id)), (row) => toRecord(row, heldOf(store, row)))
        ),
      attempts: (id) =>
        Effect.sync(() => (store.rows.get(id)?.history ?? []).slice(0, maxAttemptsRead).map(({ record }) => record)),
      awaitTerminal: (id) =>
        Effect.suspend(() => {
          const row = store.rows.get(id)
          return row === undefined
            ? Effect.succeedNone
            : Effect.asSome(Effect.raceFirst(Deferred.await(row.ended), watchUnserved(store, row)))
        }),
      cancel: (id) => atOnce((now) => cancel(store, id, now)),
      register: (options) => atOnce((now) => register(store, options, now)),
      unregister: (id) => atOnce((now) => unregister(store, id, now)),
      claim: (options) => atOnce((now) => claim(store, options, now)),
      owned: (supervisor) =>
        atOnce((now) =>
          Array.from(store.supervisors.get(supervisor)?.owned ?? [])
            .filter(({ run }) => run === undefined)
            .map((row) => toClaimed(row, now))
        ),
      settle: (supervisor, settlements) =>
        atOnce((now) => settlements.map((settlement) => settle(store, supervisor, settlement, now))),
      tick: (options) => atOnce((now) => tick(store, options, now)),
      duties,
      takeTurn: (duty) => atOnce((now) => takeTurn(store, duty, now)),
      hold: (options) => atOnce((now) => hold(store, options, now)),
      pause: (what) => Effect.sync(() => pause(store, what)),
      resume: (what) => Effect.sync(() => resume(store, what)),
      listen: store.bell.listen
    })
  })
)

/** @internal */
export const enqueue = (
  store: Store,
  executions: ReadonlyArray<NewExecution>,
  now: number
): Result.Result<ReadonlyArray<Enqueued>, BrokerError> => {
  const fault = BrokerInput.check(executions)
  if (fault !== undefined) return Result.fail(fault)
  // All or none: nothing is stored until every key of the batch has been checked.
  const rows = new Map<ExecutionId, Row>()
  const keys = new Map<string, Key>()
  const answers: Array<Enqueued> = []
  for (const execution of executions) {
    if (store.rows.has(execution.id)) return Result.fail(usedId(execution))
    const name = keyOf(execution)
    const holder = name === undefined ? undefined : keys.get(name) ?? liveKey(store, name, now)
    if (holder !== undefined) {
      const conflict = conflictOf(holder, execution)
      if (conflict !== undefined) return Result.fail(conflict)
      answers.push({ id: holder.row.execution.id, deduplicated: true })
      continue
    }
    const row = makeRow(execution, {
      arrival: store.rows.size + rows.size,
      now,
      runAt: millisOf(execution.due, now),
      startBy: Option.getOrUndefined(Option.map(execution.startBy, (due) => millisOf(due, now)))
    })
    rows.set(execution.id, row)
    if (name !== undefined) {
      keys.set(name, { row, identity: BrokerInput.identity(execution), expiresAt: keyExpiry(execution, now) })
    }
    answers.push({ id: execution.id, deduplicated: false })
  }
  for (const [name, key] of keys) store.keys.set(name, key)
  for (const [id, row] of rows) {
    store.rows.set(id, row)
    store.lines.push(row)
    if (row.startBy !== undefined) store.expiring.add(row)
  }
  const queues = new Set(Array.from(rows.values(), (row) => row.execution.queue))
  for (const queue of queues) store.bell.ring(queue, { _tag: "Enqueued", queue })
  return Result.succeed(answers)
}

const millisOf = (due: Due, now: number): number => {
  switch (due._tag) {
    case "Now":
      return now
    case "After":
      return now + BrokerInput.storedMillis(due.delay)
    case "At":
      return due.at.epochMilliseconds
  }
}

/** A key belongs to its task. */
const keyOf = (execution: NewExecution): string | undefined =>
  Option.getOrUndefined(Option.map(execution.idempotencyKey, ({ key }) => `${execution.task}\u0000${key}`))

const liveKey = (store: Store, name: string, now: number): Key | undefined => {
  const key = store.keys.get(name)
  return key !== undefined && key.expiresAt > now ? key : undefined
}

const keyExpiry = (execution: NewExecution, now: number): number =>
  Option.match(Option.flatMap(execution.idempotencyKey, ({ timeToLive }) => timeToLive), {
    onNone: () => Number.POSITIVE_INFINITY,
    onSome: (timeToLive) => now + BrokerInput.storedMillis(timeToLive)
  })

const usedId = ({ id, task }: NewExecution): BrokerError =>
  new BrokerError({ reason: new InvalidPayload({ task, detail: `the id ${id} belongs to another execution` }) })

const conflictOf = (holder: Key, execution: NewExecution): BrokerError | undefined => {
  if (holder.identity === BrokerInput.identity(execution)) return undefined
  const key = Option.match(execution.idempotencyKey, { onNone: () => "", onSome: ({ key }) => key })
  return new BrokerError({
    reason: new KeyConflict({ task: execution.task, key, executionId: holder.row.execution.id })
  })
}

/** Registering again, after a lost acknowledgement, changes nothing: only ticks renew a lease. */
const register = (store: Store, options: Parameters<Broker["Service"]["register"]>[0], now: number): void => {
  if (store.supervisors.has(options.supervisor)) return
  store.supervisors.set(options.supervisor, {
    expiresAt: now + Duration.toMillis(options.lease),
    lanes: options.lanes,
    owned: new Set(),
    holds: new Map()
  })
}

const hold = (store: Store, options: Parameters<Broker["Service"]["hold"]>[0], now: number): ReadonlyArray<Lane> => {
  const holds = store.supervisors.get(options.supervisor)?.holds
  if (holds === undefined) return []
  for (const lane of options.lanes) {
    const name = nameOf(lane)
    if (Option.isNone(options.reason)) {
      holds.delete(name)
      continue
    }
    const reason = BrokerInput.printable(options.reason.value, Limits.maxDetailLength)
    const since = holds.get(name)?.failingSince
    if (options.failing && since === undefined) noteServed(store, lane, now)
    holds.set(name, { reason, failingSince: options.failing ? since ?? now : undefined })
  }
  const past = now - Duration.toMillis(options.patience)
  return options.lanes.filter((lane) => {
    const since = holds.get(nameOf(lane))?.failingSince
    return since !== undefined && since <= past &&
      serving(store, lane, past).every(({ holds }) => holds.get(nameOf(lane))?.failingSince !== undefined)
  })
}

/** A supervisor served the lane until now without failing, so the patience of the others starts again. */
const noteServed = (store: Store, lane: Lane, until: number): void => {
  for (const { holds } of store.supervisors.values()) {
    const hold = holds.get(nameOf(lane))
    if (hold?.failingSince !== undefined) hold.failingSince = Math.max(hold.failingSince, until)
  }
}

/** Removes a supervisor whose lease has ended. */
const dismiss = (store: Store, id: SupervisorId, { holds, lanes }: Supervisor, ends: number): void => {
  store.supervisors.delete(id)
  for (const lane of lanes) {
    if (holds.get(nameOf(lane))?.failingSince === undefined) noteServed(store, lane, ends)
  }
}

const pauseOf = (what: Pausable): string =>
  JSON.stringify("queue" in what ? ["queue", what.queue] : ["task", what.task])

const pause = ({ bell, pauses }: Store, what: Pausable): boolean => {
  if (pauses.has(pauseOf(what))) return false
  pauses.add(pauseOf(what))
  bell.ringAll({ _tag: "Paused" })
  return true
}

const resume = ({ bell, pauses }: Store, what: Pausable): boolean => {
  if (!pauses.delete(pauseOf(what))) return false
  bell.ringAll({ _tag: "Paused" })
  return true
}

const isPaused = ({ pauses }: Store, { queue, task }: Lane): boolean =>
  pauses.size > 0 && (pauses.has(pauseOf({ queue })) || pauses.has(pauseOf({ task })))

/** The supervisors that served a lane at that time, or later. */
const serving = (store: Store, { queue, task }: Lane, then: number): ReadonlyArray<Supervisor> =>
  Array.from(store.supervisors.values()).filter(({ expiresAt, lanes }) =>
    expiresAt > then && lanes.some((lane) => lane.queue === queue && lane.task === task)
  )

/** Why a queued row is not claimed: a pause, or a supervisor that holds its lane back. */
const heldOf = (store: Store, row: Row): Option.Option<string> => {
  if (row.state !== "queued") return Option.none()
  const { queue } = row.execution
  if (isPaused(store, row.execution)) {
    return Option.some(store.pauses.has(pauseOf({ queue })) ? "its queue is paused" : "its task is paused")
  }
  const name = nameOf(row.execution)
  const first = Option.firstSomeOf(
    Array.from(store.supervisors.values(), ({ holds }) => Option.fromUndefinedOr(holds.get(name)))
  )
  return Option.map(first, ({ reason }) => reason)
}

/** Logs once when a row is due and no supervisor serves its lane. Never ends. */
const watchUnserved = (store: Store, row: Row): Effect.Effect<never> => {
  const patience = Duration.toMillis(Limits.unservedPatience)
  const isUnserved = (now: number): boolean =>
    row.state === "queued" && row.runAt + patience <= now && serving(store, row.execution, now).length === 0
  const look = Effect.andThen(Effect.sleep(Limits.unservedPatience), atOnce(isUnserved))
  return Effect.repeat(look, { until: (unserved) => unserved }).pipe(
    Effect.andThen(tellUnserved(row.execution)),
    Effect.andThen(Effect.never)
  )
}

const claim = (
  store: Store,
  options: Parameters<Broker["Service"]["claim"]>[0],
  now: number
): ReadonlyArray<Claimed> => {
  const supervisor = store.supervisors.get(options.supervisor)
  if (supervisor === undefined || supervisor.expiresAt <= now) return []
  const claimed: Array<Claimed> = []
  const dueBy = now - Duration.toMillis(options.waited ?? Duration.zero)
  const lanes = options.lanes.filter((lane) => lane.queue !== runQueue && !isPaused(store, lane))
  const limits = new Map(options.lanes.map((lane) => [nameOf(lane), lane.limit ?? options.limit]))
  const taken = new Map<string, number>()
  const line = (lane: Lane, priority: number) => `${priority}\u0000${nameOf(lane)}`
  const mayTake = (lane: Lane, priority: number) => (taken.get(line(lane, priority)) ?? 0) < limits.get(nameOf(lane))!
  while (claimed.length < options.limit) {
    const row = store.lines.first(lanes, dueBy, mayTake)
    if (row === undefined) break
    if (isExpired(row, now)) {
      expire(store, row, now)
      continue
    }
    const suspect = row.losses >= suspectLosses
    if (suspect && claimed.length > 0) break
    row.state = "running"
    row.owner = options.supervisor
    row.fence += 1
    row.claimedAt = now
    supervisor.owned.add(row)
    claimed.push(toClaimed(row, now))
    const own = line(row.execution, row.execution.priority)
    taken.set(own, (taken.get(own) ?? 0) + 1)
    if (suspect) break
  }
  return claimed
}

const toClaimed = (row: Row, now: number): Claimed => ({
  id: row.execution.id,
  fence: row.fence,
  task: row.execution.task,
  queue: row.execution.queue,
  priority: row.execution.priority,
  payload: row.execution.payload,
  format: row.execution.format,
  attempt: row.attempts + 1,
  losses: row.losses,
  maxAttempts: row.execution.maxAttempts,
  timeoutMillis: Duration.toMillis(row.execution.timeout),
  atMostOnce: row.execution.atMostOnce,
  traceparent: row.execution.traceparent,
  claimedAtMillis: row.claimedAt,
  waitedMillis: now - row.runAt
})

const settle = (store: Store, supervisor: SupervisorId, settlement: Settlement, now: number): Settled => {
  const row = store.rows.get(settlement.id)
  if (row === undefined || row.run !== undefined) return "LeaseLost"
  if (!isHeld(row) || row.owner !== supervisor || row.fence !== settlement.fence) {
    // The acknowledgement may have been lost. What this owner settled with this fence stays settled.
    const repeated = row.history.some(({ record, settledBy }) =>
      settledBy === supervisor && record.fence === settlement.fence
    )
    return repeated ? "Settled" : "LeaseLost"
  }
  const facts = {
    cancelling: row.state === "cancelling",
    attempts: row.attempts,
    maxAttempts: row.execution.maxAttempts
  }
  carryOut(store, row, resolve(facts, settlement.outcome), now, {
    settledBy: supervisor,
    place: settlement.place
  })
  return "Settled"
}

/** Records the attempt of a held row and moves the row on. */
const carryOut = (store: Store, row: Row, verdict: Verdict, now: number, by: {
  readonly settledBy: SupervisorId | undefined
  readonly place: Option.Option<string>
}): void => {
  if (verdict.attempt !== undefined) {
    row.history.push({
      settledBy: by.settledBy,
      record: {
        execution: row.execution.id,
        fence: row.fence,
        attempt: row.attempts + 1,
        outcome: verdict.attempt,
        claimedAt: DateTime.makeUnsafe(row.claimedAt),
        endedAt: DateTime.makeUnsafe(now),
        result: Option.fromUndefinedOr(verdict.attemptResult),
        place: by.place,
        confirmed: verdict.confirmed
      }
    })
  }
  if (row.owner !== undefined) store.supervisors.get(row.owner)?.owned.delete(row)
  row.owner = undefined
  if (verdict.counts) row.attempts += 1
  if (verdict.loses) row.losses += 1
  if (verdict.next.state === "queued") requeue(store, row, verdict.next.delayMillis, now)
  else finish(store, row, verdict.next.state, verdict.next.result, now)
}

const expire = (store: Store, row: Row, now: number): void => finish(store, row, "expired", Endings.expired, now)

const cancel = (store: Store, id: ExecutionId, now: number): "Cancelled" | "Requested" | "TooLate" => {
  const row = store.rows.get(id)
  if (row === undefined || isOver(row)) return "TooLate"
  if (row.run !== undefined) {
    send(store, { run: id, key: "cancel", value: "null" }, now)
    return "Requested"
  }
  if (row.state === "queued") {
    finish(store, row, "cancelled", Endings.cancelled, now)
    return "Cancelled"
  }
  row.state = "cancelling"
  store.bell.ring(row.execution.queue, { _tag: "Cancelling", id })
  return "Requested"
}

const unregister = (store: Store, id: SupervisorId, now: number): void => {
  const supervisor = store.supervisors.get(id)
  if (supervisor === undefined) return
  dismiss(store, id, supervisor, now)
  for (const row of supervisor.owned) {
    if (row.run !== undefined) {
      giveBack(store, row, row.run, now, false)
      continue
    }
    const facts = {
      cancelling: row.state === "cancelling",
      attempts: row.attempts,
      maxAttempts: row.execution.maxAttempts
    }
    const verdict = row.execution.atMostOnce ? left(facts) : resolve(facts, Outcome.Released())
    carryOut(store, row, verdict, now, { settledBy: undefined, place: Option.none() })
  }
}

const tick = (store: Store, options: Parameters<Broker["Service"]["tick"]>[0], now: number): Tick => {
  const dueDuties = options.duties.filter((name) => (store.turns.get(name) ?? 0) <= now && hasWork(store, name, now))
  const supervisor = store.supervisors.get(options.supervisor)
  if (supervisor === undefined || supervisor.expiresAt <= now) {
    return { alive: false, paused: [], cancelling: [], nextDue: Option.none(), unread: [], dueDuties }
  }
  supervisor.expiresAt = now + Duration.toMillis(options.lease)
  const cancelling = Array.from(supervisor.owned).filter((row) => row.state === "cancelling")
  const nextDue = Option.filter(Option.fromUndefinedOr(store.lines.nextDue(options.lanes)), (due) => due < never)
  return {
    alive: true,
    paused: supervisor.lanes.filter((lane) => isPaused(store, lane)),
    cancelling: cancelling.map((row) => row.execution.id),
    nextDue: Option.map(nextDue, (due) => Duration.millis(Math.max(0, due - now))),
    unread: Array.from(supervisor.owned, (row) => row.execution.id).filter((id) => store.inboxes.has(id)),
    dueDuties
  }
}

const hasWork = (store: Store, duty: string, now: number): boolean => {
  switch (duty) {
    case "reap":
      return Array.from(store.supervisors.values()).some(({ expiresAt }) => expiresAt <= now)
    case "expire":
      return Array.from(store.expiring).some((row) => isExpired(row, now))
    default:
      return true
  }
}

const takeTurn = (store: Store, { interval, name }: Duty, now: number): boolean => {
  if ((store.turns.get(name) ?? 0) > now) return false
  store.turns.set(name, now + Duration.toMillis(interval))
  return true
}

const expireAll = (store: Store, now: number): void => {
  for (const row of store.expiring) {
    if (isExpired(row, now)) expire(store, row, now)
  }
}

/** Takes the executions from every supervisor whose lease has lapsed. */
const reap = (store: Store, now: number): void => {
  for (const [id, supervisor] of store.supervisors) {
    if (supervisor.expiresAt > now) continue
    dismiss(store, id, supervisor, supervisor.expiresAt)
    for (const row of supervisor.owned) {
      if (row.run !== undefined) {
        giveBack(store, row, row.run, now, true)
        continue
      }
      const facts = {
        cancelling: row.state === "cancelling",
        atMostOnce: row.execution.atMostOnce,
        losses: row.losses
      }
      carryOut(store, row, lapsed(facts), now, { settledBy: undefined, place: Option.none() })
    }
  }
}

/** Takes a run from its owner. One that has lost too many owners waits for a person. */
const giveBack = (store: Store, row: Row, run: RunPart, now: number, losing: boolean): void => {
  row.owner = undefined
  run.home = undefined
  if (losing) row.losses += 1
  if (!losing || row.losses < maxLosses) return requeue(store, row, 0, now)
  row.state = "waiting"
  row.fence += 1
  row.runAt = never
  run.held = `${row.losses} workers were lost while they ran it`
}

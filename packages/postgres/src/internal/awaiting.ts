/**
 * Waiting for executions to end.
 *
 * A process leaves its name for the execution. The statement that ends the execution reads the name under the row's
 * lock and sends a message. Ends without a message are found by one query per process, now and then, over everything it
 * awaits.
 */
import { type ExecutionId, type Lane, type Record, tellUnserved as tellLane } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Batcher from "./batcher.ts"
import type { Listener } from "./listener.ts"
import type { Local } from "./local.ts"
import { find, isTerminal } from "./records.ts"
import { isBadValue, retryTransient, unavailable } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** How often a process checks what it awaits: seldom while messages arrive, often while they do not. */
const pollWhileTold = Duration.seconds(5)

/** The most ids in one query. */
const maxIds = 1_000

/** The most records in one response: each may have a payload and a result. */
const maxRecords = 100

/** How long to wait for a server that is away. A caller that awaits has nothing better to do. */
const patience = Schedule.upTo(
  Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("2 seconds")]),
  { duration: "2 minutes" }
)

/** Each query has the whole patience: a caller that waits for days lives through more than one outage. */
const patiently = <A>(question: Effect.Effect<A, BrokerError>): Effect.Effect<A, BrokerError> =>
  Effect.retry(question, { schedule: patience, while: ({ reason }) => reason._tag === "Unavailable" })

/** The callers in this process that await an execution, and since when, by the process's clock. */
interface Waiting {
  readonly since: number
  readonly latches: Set<Latch.Latch>
}

export const makeAwaiting = Effect.fnUntraced(function*(
  store: Store,
  local: Local,
  listener: Listener,
  options: { readonly pollInterval: Duration.Duration; readonly unservedPatience: Duration.Duration }
): Effect.fn.Return<
  (id: ExecutionId) => Effect.Effect<Option.Option<Record>, BrokerError>,
  never,
  Scope.Scope
> {
  const { s } = store
  const waiting = new Map<ExecutionId, Waiting>()
  let unserved = new Set<string>()

  local.onEnded = (ids) => {
    for (const id of ids) {
      for (const latch of waiting.get(id)?.latches ?? []) latch.openUnsafe()
    }
  }

  /** Leaves this process's name. Returns true if the execution has not ended. */
  const watch = yield* Batcher.make<ExecutionId, boolean>({
    concurrency: 1,
    maxWeight: maxIds,
    weigh: () => 1,
    run: (ids) =>
      retryTransient(
        store.beside((sql) =>
          sql<{ readonly id: ExecutionId }>`SELECT w.id FROM ${s}.watch(${store.process}, ${arrays.uuid(ids)}) AS w(id)`
        )
      ).pipe(
        Effect.mapError(unavailable("awaitTerminal")),
        Effect.map((rows) => {
          const open = new Set(rows.map((row) => row.id))
          return ids.map((id) => Exit.succeed(open.has(id)))
        })
      )
  })

  type Answer = Exit.Exit<Option.Option<Record>, BrokerError>

  /** Halves a batch that cannot be read until the bad row is alone, so that the others are returned. */
  const read = (ids: ReadonlyArray<ExecutionId>): Effect.Effect<ReadonlyArray<Answer>, BrokerError> =>
    Effect.matchEffect(retryTransient(find(store, store.beside, ids)), {
      onSuccess: (records) => {
        const byId = new Map(records.map((record) => [record.id, record]))
        return Effect.succeed(ids.map((id): Answer => Exit.succeed(Option.fromUndefinedOr(byId.get(id)))))
      },
      onFailure: (error) => {
        const failure = unavailable("awaitTerminal")(error)
        if (!isBadValue(error)) return Effect.fail(failure)
        if (ids.length === 1) return Effect.succeed([Exit.fail(failure)])
        const middle = Math.ceil(ids.length / 2)
        return Effect.zipWith(
          read(ids.slice(0, middle)),
          read(ids.slice(middle)),
          (first, second) => [...first, ...second]
        )
      }
    })

  const lookup = yield* Batcher.make<ExecutionId, Option.Option<Record>>({
    concurrency: 2,
    maxWeight: maxRecords,
    weigh: () => 1,
    run: read
  })

  const ask = Effect.gen(function*() {
    const ids = [...waiting.keys()]
    for (let from = 0; from < ids.length; from += maxIds) {
      const ended = yield* store.beside((sql) =>
        sql<{ readonly id: ExecutionId }>`
          SELECT f.id FROM ${s}.find_ended(${arrays.uuid(ids.slice(from, from + maxIds))}) AS f(id)
        `
      )
      local.onEnded(ended.map((row) => row.id))
    }
  })
  const patienceMillis = Duration.toMillis(options.unservedPatience)

  /** Logs lanes that no worker serves, once until a worker does. */
  const tellUnserved = Effect.gen(function*() {
    const before = performance.now() - patienceMillis
    const ids = Array.from(waiting).flatMap(([id, { since }]) => since <= before ? [id] : [])
    const found = new Set<string>()
    for (let from = 0; from < ids.length; from += maxIds) {
      const lanes = yield* store.beside((sql) =>
        sql<Lane>`SELECT * FROM ${s}.unserved(${
          arrays.uuid(ids.slice(from, from + maxIds))
        }, ${patienceMillis}::float8)`
      )
      for (const lane of lanes) {
        const name = JSON.stringify([lane.queue, lane.task])
        if (found.has(name)) continue
        found.add(name)
        if (!unserved.has(name)) yield* tellLane(lane)
      }
    }
    unserved = found
  })
  const look = Effect.andThen(Effect.ignore(ask), Effect.ignore(tellUnserved))
  const poll = Effect.suspend(() =>
    Effect.andThen(
      Effect.sleep(listener.isConnected() ? pollWhileTold : options.pollInterval),
      Effect.suspend(() => waiting.size === 0 ? Effect.void : look)
    )
  )
  yield* Effect.forkScoped(Effect.forever(poll))

  const enter = (id: ExecutionId): Latch.Latch => {
    const latch = Latch.makeUnsafe(false)
    const found = waiting.get(id)
    if (found === undefined) waiting.set(id, { since: performance.now(), latches: new Set([latch]) })
    else found.latches.add(latch)
    return latch
  }
  const leave = (id: ExecutionId, latch: Latch.Latch): void => {
    const found = waiting.get(id)
    found?.latches.delete(latch)
    if (found?.latches.size === 0) waiting.delete(id)
  }

  const untilEnded = (id: ExecutionId) =>
    Effect.acquireUseRelease(
      Effect.sync(() => enter(id)),
      (latch) =>
        Effect.gen(function*() {
          while (true) {
            // Closed before the row is read, so that an end in between opens it again.
            latch.closeUnsafe()
            if (yield* patiently(watch(id))) yield* latch.await
            const record = yield* patiently(lookup(id))
            if (Option.isNone(record) || isTerminal(record.value)) return record
          }
        }),
      (latch) => Effect.sync(() => leave(id, latch))
    )

  return (id) =>
    Effect.suspend(() => {
      if (!isUuid(id)) return Effect.succeedNone
      listener.start()
      return untilEnded(id.toLowerCase())
    })
})

/**
 * Enqueues in the app's own transaction if there is one, otherwise in a batch with others that enqueue at the same
 * time.
 */
import type { Due, Enqueued, NewExecution } from "@effect-ray/core/Broker"
import { BrokerError, InvalidPayload, OtherTransaction, Unavailable } from "@effect-ray/core/BrokerError"
import * as BrokerInput from "@effect-ray/core/BrokerInput"
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Batcher from "./batcher.ts"
import {
  digestOf,
  type EnqueueRequest,
  type EnqueueResult,
  makeRequest,
  markOf,
  resultOf,
  stored
} from "./enqueueRequests.ts"
import { laneId, type LaneBook } from "./lanes.ts"
import { newsOf, type Notifier } from "./notifier.ts"
import { isBadValue, isLockTimeout, isReadOnly, retryTransient, unavailable, wordsOf } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** The key under which Effect's SqlClients record that the fiber is in one of their transactions. */
export const CurrentTransaction = Context.Reference<Context.Key<never, object> | undefined>(
  "effect/sql/CurrentTransactionService",
  { defaultValue: () => undefined }
)

/** The most that a batch weighs, in characters of payload. A single request may weigh more. */
const maxBatchWeight = 16 * 1024 * 1024

/** The least that a row weighs: a thousand of them fill a batch. */
const minRowWeight = maxBatchWeight / 1_000

/**
 * How long a batch waits for a key that another transaction holds, before it is halved to find the request with that
 * key.
 */
const batchPatience = "25ms"

/** How long a request waits for such a key at a time, and how many wait at once. Then it is the others' turn. */
const waitPatience = "250ms"
const maxWaiting = 3

/** The failure of a request whose key another transaction holds. A single value, so that it can be recognised. */
const held = new BrokerError({
  reason: new Unavailable({
    operation: "enqueue",
    detail: "another transaction holds the idempotency key and has not ended in time"
  })
})

const isHeld = (error: BrokerError): boolean => error === held

/** Stores requests, and returns a result for each. */
type Statement = (
  sql: PgClient,
  requests: ReadonlyArray<EnqueueRequest>,
  token: string | null,
  message: string | null
) => Effect.Effect<ReadonlyArray<EnqueueResult>, SqlError>

export const makeEnqueue = Effect.fnUntraced(function*(
  store: Store,
  notifier: Notifier,
  noteLanes: LaneBook,
  options: { readonly keyPatience: Duration.Duration }
): Effect.fn.Return<
  (executions: ReadonlyArray<NewExecution>) => Effect.Effect<ReadonlyArray<Enqueued>, BrokerError>,
  never,
  Scope.Scope
> {
  const { s } = store

  const insert: Statement = (sql, requests, token, message) =>
    Effect.map(
      sql`SELECT ${s}.enqueue(${token}, ${store.channel}, ${message}, ${
        rowsOf(store, requests.flatMap(({ executions }) => executions))
      })`,
      () => requests.map(stored)
    )

  const insertKeyed = (patience: string | null): Statement => (sql, requests, token, message) => {
    const rows = requests.flatMap((request) => request.executions)
    const keys = rows.map((row) => Option.getOrUndefined(row.idempotencyKey))
    const lives = keys.map((key) =>
      key === undefined || Option.isNone(key.timeToLive) ? null : BrokerInput.storedMillis(key.timeToLive.value)
    )
    return Effect.map(
      sql<{ readonly ord: number; readonly holder: string; readonly same_payload: boolean }>`
        SELECT * FROM ${s}.enqueue_keyed(
          ${token}, ${patience}, ${store.channel}, ${message}, ${rowsOf(store, rows)},
          ${arrays.int4(requests.flatMap((request, index) => request.executions.map(() => index)))},
          ${arrays.text(keys.map((key) => key?.key ?? null))},
          ${arrays.uuid(rows.map((row, index) => keys[index] === undefined ? null : digestOf(row)))},
          ${arrays.float8(lives)}
        )
      `,
      (holders) => {
        const holderOf = new Map(holders.map((row) => [rows[row.ord - 1]!, row]))
        return requests.map((request) => resultOf(request, holderOf))
      }
    )
  }

  /** Runs a batch under its own token. Halves it until the request that cannot be stored, or has to wait, is alone. */
  const run = (
    requests: ReadonlyArray<EnqueueRequest>,
    statement: Statement
  ): Effect.Effect<ReadonlyArray<EnqueueResult>> =>
    Effect.suspend(() => {
      const rows = requests.flatMap((request) => request.executions)
      const news = newsOf(rows)
      const message = notifier.leadingEdge(news)
      const token = SecureRandom.uuidV7Unsafe()
      const asked = store.ask((sql) => statement(sql, requests, token, message), {
        characters: requests.reduce((sum, request) => sum + weigh(request), 0)
      })
      return retryTransient(asked).pipe(
        Effect.tap(() => {
          notifier.enqueued(news, message !== null)
          notifier.background(noteLanes(rows))
          return Effect.void
        }),
        Effect.catch((error) => {
          if (requests.length === 1 || !(isBadValue(error) || isLockTimeout(error))) {
            return Effect.succeed(requests.map((request) => Exit.fail(failed(request, error))))
          }
          const middle = Math.ceil(requests.length / 2)
          return Effect.zipWith(
            run(requests.slice(0, middle), statement),
            run(requests.slice(middle), statement),
            (first, second) => [...first, ...second]
          )
        })
      )
    })

  const plain = yield* Batcher.make<EnqueueRequest, ReadonlyArray<Enqueued>>({
    concurrency: 2,
    maxWeight: maxBatchWeight,
    weigh,
    run: (requests) => run(requests, insert)
  })

  // Requests with keys have a batcher of their own, and so do those that wait for another transaction: they delay no
  // others.
  const keyed = yield* Batcher.make<EnqueueRequest, ReadonlyArray<Enqueued>>({
    concurrency: 1,
    maxWeight: maxBatchWeight,
    weigh,
    marks: marksOf,
    run: (requests) => run(requests, insertKeyed(batchPatience))
  })
  const patient = yield* Batcher.make<EnqueueRequest, ReadonlyArray<Enqueued>>({
    concurrency: maxWaiting,
    maxWeight: 1,
    weigh: () => 1,
    marks: marksOf,
    run: (requests) => run(requests, insertKeyed(waitPatience))
  })

  /** How many requests wait for a key, by its mark. */
  const waiting = new Map<string, number>()
  const count = (marks: ReadonlyArray<string>, n: number): void => {
    for (const mark of marks) {
      const left = (waiting.get(mark) ?? 0) + n
      if (left === 0) waiting.delete(mark)
      else waiting.set(mark, left)
    }
  }

  /** Waits in turns with all other requests that wait for a key. */
  const wait = (
    request: EnqueueRequest,
    marks: ReadonlyArray<string>
  ): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> =>
    Effect.acquireUseRelease(
      Effect.sync(() => count(marks, 1)),
      () =>
        Effect.timeoutOrElse(Effect.retry(patient(request), { while: isHeld }), {
          duration: options.keyPatience,
          orElse: () => Effect.fail(held)
        }),
      () => Effect.sync(() => count(marks, -1))
    )

  const grouped = (request: EnqueueRequest, hasKeys: boolean): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> => {
    if (!hasKeys) return plain(request)
    const marks = marksOf(request)
    // Others already wait for this key, so no batch need find that out.
    if (marks.some((mark) => waiting.has(mark))) return wait(request, marks)
    return Effect.catchIf(keyed(request), isHeld, () => wait(request, marks))
  }

  /**
   * In the app's transaction. Without a token, because it is all or nothing anyway. Messages are sent after the commit.
   */
  const joined = (request: EnqueueRequest, hasKeys: boolean): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> => {
    const { sql } = store
    const news = newsOf(request.executions)
    return Effect.gen(function*() {
      const results = yield* (hasKeys ? insertKeyed(null) : insert)(sql, [request], null, null)
      const result = yield* results[0]!
      yield* sql.afterCommit(Effect.sync(() => {
        notifier.enqueued(news, false)
        notifier.background(noteLanes(request.executions))
      }))
      return result
    }).pipe(
      Effect.catchTag(
        "SqlError",
        (error) => Effect.andThen(isReadOnly(error) ? store.ask.shed : Effect.void, Effect.fail(failed(request, error)))
      )
    )
  }

  return (given) =>
    Effect.contextWith((context: Context.Context<never>) => {
      if (given.length === 0) return Effect.succeed([])
      const refusal = BrokerInput.check(given)
      if (refusal !== undefined) return Effect.fail(refusal)
      const request = makeRequest(given)
      if (request instanceof BrokerError) return Effect.fail(request)
      const hasKeys = request.executions.some((row) => Option.isSome(row.idempotencyKey))
      if (Context.getOrUndefined(context, store.sql.transactionService) !== undefined) return joined(request, hasKeys)
      if (Context.get(context, CurrentTransaction) !== undefined) return Effect.fail(otherTransaction())
      return grouped(request, hasKeys)
    })
})

/** The executions as parameters of the schema's functions: one array for each column. */
export const rowsOf = ({ sql }: Pick<Store, "sql">, rows: ReadonlyArray<NewExecution>) => {
  const dues = rows.map((row) => columnsOf(row.due))
  const starts = rows.map((row) => Option.isNone(row.startBy) ? never : columnsOf(row.startBy.value))
  return sql`
    ${arrays.uuid(rows.map((row) => row.id))},
    ${arrays.int8(rows.map(laneId))},
    ${arrays.text(rows.map((row) => row.task))},
    ${arrays.text(rows.map((row) => row.queue))},
    ${arrays.int2(rows.map((row) => row.priority))},
    ${arrays.text(rows.map((row) => row.payload))},
    ${arrays.int4(rows.map((row) => row.format))},
    ${arrays.float8(dues.map((due) => due.delay))},
    ${arrays.float8(dues.map((due) => due.at))},
    ${arrays.int4(rows.map((row) => row.maxAttempts))},
    ${arrays.float8(rows.map((row) => BrokerInput.storedMillis(row.timeout)))},
    ${arrays.float8(starts.map((start) => start.delay))},
    ${arrays.float8(starts.map((start) => start.at))},
    ${arrays.bool(rows.map((row) => row.atMostOnce))},
    ${arrays.text(rows.map((row) => tagsOf(row)))},
    ${arrays.text(rows.map((row) => Option.getOrNull(row.traceparent)))}
  `
}

const never = { delay: null, at: null }

/** A due time as two columns: a delay by the store's clock, or a time, both in milliseconds. */
const columnsOf = (due: Due): { readonly delay: number | null; readonly at: number | null } => {
  switch (due._tag) {
    case "Now":
      return { delay: 0, at: null }
    case "After":
      return { delay: BrokerInput.storedMillis(due.delay), at: null }
    case "At":
      return { delay: null, at: DateTime.toEpochMillis(due.at) }
  }
}

const tagsOf = ({ tags }: NewExecution): string | null => {
  for (const _ in tags) return JSON.stringify(tags)
  return null
}

const marksOf = (request: EnqueueRequest): ReadonlyArray<string> =>
  request.executions.flatMap((row) => markOf(row) ?? [])

const weigh = (request: EnqueueRequest): number =>
  request.executions.reduce((weight, { payload }) => weight + Math.max(minRowWeight, payload.length), 0)

/** The error that a request gets for a failed statement. */
const failed = (request: EnqueueRequest, error: SqlError): BrokerError => {
  if (isLockTimeout(error)) return held
  if (!isBadValue(error)) return unavailable("enqueue")(error)
  const detail = `Postgres cannot store it: ${wordsOf(error)}`
  return new BrokerError({ reason: new InvalidPayload({ task: request.executions[0]!.task, detail }) })
}

const otherTransaction = (): BrokerError =>
  new BrokerError({
    reason: new OtherTransaction({
      detail: "this fiber is in a transaction of a SqlClient other than the broker's, so the enqueue could not be part "
        + "of it: give the broker the same PgClient, or enqueue outside that transaction"
    })
  })

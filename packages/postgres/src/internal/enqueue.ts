/**
 * Enqueue: in the app's own transaction when there is one, else together with whoever enqueues at the same time.
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
import { type Answer, answer, type Call, digestOf, makeCall, markOf, stored } from "./keyedCalls.ts"
import { laneId, type LaneBook } from "./lanes.ts"
import { newsOf, type Notifier } from "./notifier.ts"
import { isBadValue, isLockTimeout, isReadOnly, retryTransient, unavailable, wordsOf } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** The key under which Effect's SqlClients say that the fiber is in a transaction of theirs. */
const CurrentTransaction = Context.Reference<Context.Key<never, object> | undefined>(
  "effect/sql/CurrentTransactionService",
  { defaultValue: () => undefined }
)

/** The most a grouped statement weighs, in characters of payload. A single call may weigh more. */
const maxBatchWeight = 16 * 1024 * 1024

/** What a row weighs at least: a thousand of them fill a batch. */
const minRowWeight = maxBatchWeight / 1_000

/** How long a batch waits for a key that another transaction holds, before it is halved to find out whose that is. */
const batchPatience = "25ms"

/** How long one call waits for such a key in one go, and how many wait at once. Then others have a turn. */
const waitPatience = "250ms"
const maxWaiting = 3

/** The failure of a call whose key another transaction holds. There is one, so that it can be told from others. */
const held = new BrokerError({
  reason: new Unavailable({
    operation: "enqueue",
    detail: "another transaction holds the idempotency key and has not ended in time"
  })
})

const isHeld = (error: BrokerError): boolean => error === held

/** Stores calls, and answers each. */
type Statement = (
  sql: PgClient,
  calls: ReadonlyArray<Call>,
  token: string | null,
  message: string | null
) => Effect.Effect<ReadonlyArray<Answer>, SqlError>

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

  const insert: Statement = (sql, calls, token, message) =>
    Effect.map(
      sql`SELECT ${s}.enqueue(${token}, ${store.channel}, ${message}, ${rowsOf(store, calls)})`,
      () => calls.map(stored)
    )

  const insertKeyed = (patience: string | null): Statement => (sql, calls, token, message) => {
    const rows = calls.flatMap((call) => call.executions)
    const keys = rows.map((row) => Option.getOrUndefined(row.idempotencyKey))
    const lives = keys.map((key) =>
      key === undefined || Option.isNone(key.timeToLive) ? null : BrokerInput.storedMillis(key.timeToLive.value)
    )
    return Effect.map(
      sql<{ readonly ord: number; readonly holder: string; readonly same_payload: boolean }>`
        SELECT * FROM ${s}.enqueue_keyed(
          ${token}, ${patience}, ${store.channel}, ${message}, ${rowsOf(store, calls)},
          ${arrays.int4(calls.flatMap((call, index) => call.executions.map(() => index)))},
          ${arrays.text(keys.map((key) => key?.key ?? null))},
          ${arrays.uuid(rows.map((row, index) => keys[index] === undefined ? null : digestOf(row)))},
          ${arrays.float8(lives)}
        )
      `,
      (holders) => {
        const holderOf = new Map(holders.map((row) => [rows[row.ord - 1]!, row]))
        return calls.map((call) => answer(call, holderOf))
      }
    )
  }

  /** Runs a batch under a token of its own; halves it until who cannot be stored, or has to wait, stands alone. */
  const run = (calls: ReadonlyArray<Call>, statement: Statement): Effect.Effect<ReadonlyArray<Answer>> =>
    Effect.suspend(() => {
      const rows = calls.flatMap((call) => call.executions)
      const news = newsOf(rows)
      const message = notifier.leadingEdge(news)
      const token = SecureRandom.uuidV7Unsafe()
      const asked = store.ask((sql) => statement(sql, calls, token, message), {
        characters: calls.reduce((sum, call) => sum + weigh(call), 0)
      })
      return retryTransient(asked).pipe(
        Effect.tap(() => {
          notifier.enqueued(news, message !== null)
          notifier.background(noteLanes(rows))
          return Effect.void
        }),
        Effect.catch((error) => {
          if (calls.length === 1 || !(isBadValue(error) || isLockTimeout(error))) {
            return Effect.succeed(calls.map((call) => Exit.fail(failed(call, error))))
          }
          const middle = Math.ceil(calls.length / 2)
          return Effect.zipWith(
            run(calls.slice(0, middle), statement),
            run(calls.slice(middle), statement),
            (first, second) => [...first, ...second]
          )
        })
      )
    })

  const plain = yield* Batcher.make<Call, ReadonlyArray<Enqueued>>({
    concurrency: 2,
    maxWeight: maxBatchWeight,
    weigh,
    run: (calls) => run(calls, insert)
  })

  // Calls with keys have batches of their own, and those that wait for somebody's transaction yet another: they hold
  // up nobody else.
  const keyed = yield* Batcher.make<Call, ReadonlyArray<Enqueued>>({
    concurrency: 1,
    maxWeight: maxBatchWeight,
    weigh,
    marks: marksOf,
    run: (calls) => run(calls, insertKeyed(batchPatience))
  })
  const patient = yield* Batcher.make<Call, ReadonlyArray<Enqueued>>({
    concurrency: maxWaiting,
    maxWeight: 1,
    weigh: () => 1,
    marks: marksOf,
    run: (calls) => run(calls, insertKeyed(waitPatience))
  })

  /** How many calls wait for a key, by its mark. */
  const waiting = new Map<string, number>()
  const count = (marks: ReadonlyArray<string>, n: number): void => {
    for (const mark of marks) {
      const left = (waiting.get(mark) ?? 0) + n
      if (left === 0) waiting.delete(mark)
      else waiting.set(mark, left)
    }
  }

  /** Waits in turns with all who wait for a key. */
  const wait = (call: Call, marks: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> =>
    Effect.acquireUseRelease(
      Effect.sync(() => count(marks, 1)),
      () =>
        Effect.timeoutOrElse(Effect.retry(patient(call), { while: isHeld }), {
          duration: options.keyPatience,
          orElse: () => Effect.fail(held)
        }),
      () => Effect.sync(() => count(marks, -1))
    )

  const grouped = (call: Call, hasKeys: boolean): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> => {
    if (!hasKeys) return plain(call)
    const marks = marksOf(call)
    // Where others wait already, the batches need not find out.
    if (marks.some((mark) => waiting.has(mark))) return wait(call, marks)
    return Effect.catchIf(keyed(call), isHeld, () => wait(call, marks))
  }

  /** In the app's transaction: no token, for it is all or nothing anyway, and nothing is told before the commit. */
  const joined = (call: Call, hasKeys: boolean): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> => {
    const { sql } = store
    const news = newsOf(call.executions)
    return Effect.gen(function*() {
      const answers = yield* (hasKeys ? insertKeyed(null) : insert)(sql, [call], null, null)
      const answer = yield* answers[0]!
      yield* sql.afterCommit(Effect.sync(() => {
        notifier.enqueued(news, false)
        notifier.background(noteLanes(call.executions))
      }))
      return answer
    }).pipe(
      Effect.catchTag(
        "SqlError",
        (error) => Effect.andThen(isReadOnly(error) ? store.ask.shed : Effect.void, Effect.fail(failed(call, error)))
      )
    )
  }

  return (given) =>
    Effect.contextWith((context: Context.Context<never>) => {
      if (given.length === 0) return Effect.succeed([])
      const refusal = BrokerInput.check(given)
      if (refusal !== undefined) return Effect.fail(refusal)
      const call = makeCall(given)
      if (call instanceof BrokerError) return Effect.fail(call)
      const hasKeys = call.executions.some((row) => Option.isSome(row.idempotencyKey))
      if (Context.getOrUndefined(context, store.sql.transactionService) !== undefined) return joined(call, hasKeys)
      if (Context.get(context, CurrentTransaction) !== undefined) return Effect.fail(otherTransaction())
      return grouped(call, hasKeys)
    })
})

/** The executions as the schema's functions take them: one array a column. */
const rowsOf = ({ sql }: Store, calls: ReadonlyArray<Call>) => {
  const rows = calls.flatMap((call) => call.executions)
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

/** A due time as two columns: a delay by the store's clock, or a moment; both in milliseconds. */
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

const marksOf = (call: Call): ReadonlyArray<string> => call.executions.flatMap((row) => markOf(row) ?? [])

const weigh = (call: Call): number =>
  call.executions.reduce((weight, { payload }) => weight + Math.max(minRowWeight, payload.length), 0)

/** What one call hears of a failed statement. */
const failed = (call: Call, error: SqlError): BrokerError => {
  if (isLockTimeout(error)) return held
  if (!isBadValue(error)) return unavailable("enqueue")(error)
  const detail = `Postgres cannot store it: ${wordsOf(error)}`
  return new BrokerError({ reason: new InvalidPayload({ task: call.executions[0]!.task, detail }) })
}

const otherTransaction = (): BrokerError =>
  new BrokerError({
    reason: new OtherTransaction({
      detail: "this fiber is in a transaction of another SqlClient than the broker's, so the enqueue could not be part "
        + "of it: give the broker the same PgClient, or enqueue outside that transaction"
    })
  })

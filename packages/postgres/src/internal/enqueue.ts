/**
 * Enqueue: in the app's own transaction when there is one, else together with whoever enqueues at the same time.
 */
import type { Enqueued, NewExecution } from "@effect-ray/core/Broker"
import { BrokerError, InvalidPayload, OtherTransaction } from "@effect-ray/core/BrokerError"
import * as Context from "effect/Context"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Batcher from "./batcher.ts"
import * as Input from "./input.ts"
import { answer, type Call, digestOf, makeCall, markOf, stored } from "./keyedCalls.ts"
import { laneId, type LaneBook } from "./lanes.ts"
import { newsOf, type Notifier } from "./notifier.ts"
import { isBadValue, isLockTimeout, retryTransient, unavailable, wordsOf } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** The key under which Effect's SqlClients say that the fiber is in a transaction of theirs. */
const CurrentTransaction = Context.Reference<Context.Key<never, object> | undefined>(
  "effect/sql/CurrentTransactionService",
  { defaultValue: () => undefined }
)

/** The most rows in one grouped statement. A single call may have more. */
const maxBatchRows = 1_000

/** How long a batch waits for a key that another transaction holds, before each call waits for itself. */
const batchPatience = "100ms"

/** How long one call waits for a key that another transaction holds. */
const callPatience = "30s"

/** What a call hears whose batch met a key that another transaction holds. */
const held = "held" as const

/** Stores calls, and answers each. */
type Statement<Out = ReadonlyArray<Enqueued>> = (
  calls: ReadonlyArray<Call>,
  token: string | null,
  message: string | null
) => Effect.Effect<ReadonlyArray<Exit.Exit<Out, BrokerError>>, SqlError>

export const makeEnqueue = Effect.fnUntraced(function*(
  store: Store,
  notifier: Notifier,
  noteLanes: LaneBook
): Effect.fn.Return<
  (executions: ReadonlyArray<NewExecution>) => Effect.Effect<ReadonlyArray<Enqueued>, BrokerError>,
  never,
  Scope.Scope
> {
  const { s, sql } = store

  const insert: Statement = (calls, token, message) =>
    Effect.map(
      sql`SELECT ${s}.enqueue(${token}, ${store.channel}, ${message}, ${rowsOf(store, calls)})`,
      () => calls.map(stored)
    )

  const insertKeyed = (patience: string | null): Statement => (calls, token, message) => {
    const rows = calls.flatMap((call) => call.executions)
    const keys = rows.map((row) => Option.getOrUndefined(row.idempotencyKey))
    const lives = keys.map((key) =>
      key === undefined || Option.isNone(key.timeToLive) ? null : Duration.toMillis(key.timeToLive.value)
    )
    return Effect.map(
      sql<{ readonly ord: number; readonly holder: string; readonly same_payload: boolean }>`
        SELECT * FROM ${s}.enqueue_keyed(
          ${token}, ${patience}, ${store.channel}, ${message}, ${rowsOf(store, calls)},
          ${arrays.int4(calls.flatMap((call, index) => call.executions.map(() => index)))},
          ${arrays.text(keys.map((key) => key?.key ?? null))},
          ${arrays.uuid(rows.map((row, index) => keys[index] === undefined ? null : digestOf(row.payload)))},
          ${arrays.float8(lives)}
        )
      `,
      (holders) => {
        const holderOf = new Map(holders.map((row) => [rows[row.ord - 1]!, row]))
        return calls.map((call) => answer(call, holderOf))
      }
    )
  }

  /** Runs a batch under a token of its own; call by call when one of its values cannot be stored. */
  const run = <Out>(
    calls: ReadonlyArray<Call>,
    statement: Statement<Out>
  ): Effect.Effect<ReadonlyArray<Exit.Exit<Out, BrokerError>>, BrokerError> =>
    Effect.suspend(() => {
      const rows = calls.flatMap((call) => call.executions)
      const news = newsOf(rows)
      const message = notifier.leadingEdge(news)
      return retryTransient(statement(calls, SecureRandom.uuidV7Unsafe(), message)).pipe(
        Effect.tap(() => {
          notifier.enqueued(news, message !== null)
          notifier.background(noteLanes(rows))
          return Effect.void
        }),
        Effect.catch((error) => {
          if (!isBadValue(error)) return Effect.fail(unavailable("enqueue")(error))
          if (calls.length === 1) return Effect.succeed([Exit.fail(refused(calls[0]!, error))])
          return Effect.map(Effect.forEach(calls, (call) => run([call], statement)), (answers) => answers.flat())
        })
      )
    })

  const plain = yield* Batcher.make<Call, ReadonlyArray<Enqueued>>({
    concurrency: 2,
    maxWeight: maxBatchRows,
    weigh: (call) => call.executions.length,
    run: (calls) => run(calls, insert)
  })

  // Calls with keys have a lane of their own, and those that wait for somebody's transaction yet another: they hold
  // up nobody else.
  const keyed = yield* Batcher.make<Call, ReadonlyArray<Enqueued> | typeof held>({
    concurrency: 1,
    maxWeight: maxBatchRows,
    weigh: (call) => call.executions.length,
    marks: (call) => call.executions.flatMap((row) => markOf(row) ?? []),
    run: (calls) =>
      run<ReadonlyArray<Enqueued> | typeof held>(calls, (calls, token, message) =>
        Effect.catchIf(
          insertKeyed(batchPatience)(calls, token, message),
          isLockTimeout,
          () => Effect.succeed(calls.map(() => Exit.succeed(held)))
        ))
  })
  const patient = yield* Batcher.make<Call, ReadonlyArray<Enqueued>>({
    concurrency: 3,
    maxWeight: 1,
    weigh: () => 1,
    run: (calls) => run(calls, insertKeyed(callPatience))
  })

  const grouped = (call: Call, hasKeys: boolean): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> => {
    if (!hasKeys) return plain(call)
    return Effect.flatMap(keyed(call), (answer) => answer === held ? patient(call) : Effect.succeed(answer))
  }

  /** In the app's transaction: no token, for it is all or nothing anyway, and nothing is told before the commit. */
  const joined = (call: Call, hasKeys: boolean): Effect.Effect<ReadonlyArray<Enqueued>, BrokerError> => {
    const news = newsOf(call.executions)
    return Effect.gen(function*() {
      const answers = yield* (hasKeys ? insertKeyed(null) : insert)([call], null, null)
      const answer = yield* answers[0]!
      yield* sql.afterCommit(Effect.sync(() => {
        notifier.enqueued(news, false)
        notifier.background(noteLanes(call.executions))
      }))
      return answer
    }).pipe(
      Effect.catchTag(
        "SqlError",
        (error) => Effect.fail(isBadValue(error) ? refused(call, error) : unavailable("enqueue")(error))
      )
    )
  }

  return (given) =>
    Effect.contextWith((context: Context.Context<never>) => {
      if (given.length === 0) return Effect.succeed([])
      const refusal = Input.refusalOf(given)
      if (refusal !== undefined) return Effect.fail(refusal)
      const call = makeCall(given)
      if (call instanceof BrokerError) return Effect.fail(call)
      const hasKeys = call.executions.some((row) => Option.isSome(row.idempotencyKey))
      if (Context.getOrUndefined(context, sql.transactionService) !== undefined) return joined(call, hasKeys)
      if (Context.get(context, CurrentTransaction) !== undefined) return Effect.fail(otherTransaction())
      return grouped(call, hasKeys)
    })
})

/** The executions as the schema's functions take them: one array a column. */
const rowsOf = ({ sql }: Store, calls: ReadonlyArray<Call>) => {
  const rows = calls.flatMap((call) => call.executions)
  const dues = rows.map((row) => Input.due(row.due))
  const starts = rows.map((row) => Option.isNone(row.startBy) ? never : Input.due(row.startBy.value))
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
    ${arrays.float8(rows.map((row) => Math.min(Duration.toMillis(row.timeout), Input.maxMillis)))},
    ${arrays.float8(starts.map((start) => start.delay))},
    ${arrays.float8(starts.map((start) => start.at))},
    ${arrays.bool(rows.map((row) => row.atMostOnce))},
    ${arrays.text(rows.map((row) => tagsOf(row)))},
    ${arrays.text(rows.map((row) => Option.getOrNull(row.traceparent)))}
  `
}

const never = { delay: null, at: null }

const tagsOf = ({ tags }: NewExecution): string | null => {
  for (const _ in tags) return JSON.stringify(tags)
  return null
}

const refused = (call: Call, error: SqlError): BrokerError =>
  new BrokerError({
    reason: new InvalidPayload({
      task: call.executions[0]!.task,
      detail: `Postgres cannot store it: ${wordsOf(error)}`
    })
  })

const otherTransaction = (): BrokerError =>
  new BrokerError({
    reason: new OtherTransaction({
      detail: "this fiber is in a transaction of another SqlClient than the broker's, so the enqueue could not be part "
        + "of it: give the broker the same PgClient, or enqueue outside that transaction"
    })
  })

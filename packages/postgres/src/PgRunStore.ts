/**
 * The store that keeps workflow runs in Postgres, beside the broker's executions and with the same client.
 *
 * What is started and sent inside `sql.withTransaction` is part of that transaction. What an owner records uses
 * connections of the store's own.
 */
import { Broker, type Duty } from "@effect-ray/core/Broker"
import { BrokerError, OtherTransaction } from "@effect-ray/core/BrokerError"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Envelope from "@effect-ray/core/Envelope"
import * as RunInput from "@effect-ray/core/RunInput"
import * as RunStore from "@effect-ray/core/RunStore"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Batcher from "./internal/batcher.ts"
import { type Desk, makeDesk, type SharedOptions } from "./internal/desk.ts"
import { CurrentTransaction } from "./internal/enqueue.ts"
import { laneId } from "./internal/lanes.ts"
import { makeCommit } from "./internal/runs/commit.ts"
import { maxUnread, maxUnreadBytes, type RunRow, timeoutOf, toActivation, unpack } from "./internal/runs/rows.ts"
import { makeWakes } from "./internal/runs/wakes.ts"
import type { Woken } from "./internal/notifier.ts"
import { isBadValue, retryTransient, unavailable } from "./internal/sqlFailure.ts"
import { arrays, type Store } from "./internal/store.ts"
import * as PgBroker from "./PgBroker.ts"
import * as PgStore from "./PgStore.ts"

/** The most bytes of payloads, or of entries, in one response. */
const maxBytes = 8 * 1024 * 1024

/** No journal is longer. */
const maxPosition = 2 ** 31 - 1

/** The most runs that one statement claims. */
const maxClaimed = 1_000

/** How long messages wait for a run that was never started. */
const inboxAge = Duration.days(7)

/** The most messages that one statement forgets. */
const maxForgotten = 5_000

interface Start {
  readonly run: RunStore.NewRun
  readonly owner: string | null
  readonly messages: ReadonlyArray<Omit<RunStore.Message, "run">>
}

/** The most that a batch of starts weighs, in characters. A single start may weigh more. */
const maxStartWeight = 16 * 1024 * 1024

const weighStart = ({ messages, run }: Start): number =>
  Math.max(maxStartWeight / 500, run.payload.length + messages.reduce((sum, { value }) => sum + value.length, 0))

const make = Effect.fnUntraced(function*(
  store: Store,
  desk: Desk
): Effect.fn.Return<
  { readonly runs: RunStore.RunStore["Service"]; readonly duties: ReadonlyArray<Duty> },
  never,
  Scope.Scope
> {
  const { s } = store
  const { noteLanes, notifier } = desk
  const wakes = makeWakes(store, desk)
  notifier.onWakes = wakes.start

  const isJoined = (context: Context.Context<never>): boolean =>
    Context.getOrUndefined(context, store.sql.transactionService) !== undefined

  /** Runs a statement in the app's transaction, or outside of any. */
  const joining = <A>(options: {
    readonly joined: (sql: PgClient.PgClient) => Effect.Effect<A, SqlError>
    /** Called when it has been committed. */
    readonly committed: (value: A) => void
    readonly alone: Effect.Effect<A, BrokerError>
    readonly operation: string
  }): Effect.Effect<A, BrokerError> =>
    Effect.contextWith((context: Context.Context<never>) => {
      if (isJoined(context)) {
        return options.joined(store.sql).pipe(
          Effect.tap((value) => store.sql.afterCommit(Effect.sync(() => options.committed(value)))),
          Effect.mapError(unavailable(options.operation))
        )
      }
      return Context.get(context, CurrentTransaction) === undefined
        ? options.alone
        : Effect.fail(otherTransaction(options.operation))
    })

  const startAll = (sql: PgClient.PgClient, starts: ReadonlyArray<Start>) => {
    const messages = starts.flatMap(({ messages, run }) => messages.map((message) => ({ ...message, run: run.id })))
    const supervisor = starts.find(({ owner }) => owner !== null)?.owner ?? null
    return Effect.map(
      sql<{ readonly started: ReadonlyArray<"owned" | "stored" | "exists">; readonly now_millis: number }>`
        SELECT * FROM ${s}.start_runs(
          ${supervisor},
          ${arrays.uuid(starts.map(({ run }) => run.id))},
          ${arrays.text(starts.map(({ run }) => run.name))},
          ${arrays.text(starts.map(({ run }) => run.workflow))},
          ${arrays.int8(starts.map(({ run }) => laneId(RunStore.laneOf(run.workflow))))},
          ${RunStore.queue},
          ${arrays.text(starts.map(({ run }) => run.payload))},
          ${arrays.int4(starts.map(() => Envelope.format))},
          ${arrays.text(starts.map(({ run }) => Option.getOrNull(run.traceparent)))},
          ${arrays.float8(starts.map(({ run }) => timeoutOf(run)))},
          ${arrays.bool(starts.map(({ owner }) => owner !== null))},
          ${arrays.uuid(messages.map(({ run }) => run))},
          ${arrays.text(messages.map(({ key }) => key))},
          ${arrays.text(messages.map(({ value }) => value))}
        )
      `,
      ([answer]) =>
        answer!.started.map((started): RunStore.Started =>
          started === "owned"
            ? { _tag: "Owned", fence: 1, nowMillis: answer!.now_millis }
            : started === "stored"
            ? { _tag: "Stored" }
            : { _tag: "Exists" }
        )
    )
  }

  const started = (starts: ReadonlyArray<Start>, answers: ReadonlyArray<RunStore.Started>): void => {
    if (answers.some(({ _tag }) => _tag === "Stored")) notifier.enqueued(new Map([[RunStore.queue, 0]]), false)
    if (starts.some(({ messages }) => messages.length > 0)) wakes.start()
    notifier.background(noteLanes(starts.map(({ run }) => RunStore.laneOf(run.workflow))))
  }

  /** Halves a batch until the run that cannot be stored is alone. */
  const startBatch = (
    starts: ReadonlyArray<Start>
  ): Effect.Effect<ReadonlyArray<Exit.Exit<RunStore.Started, BrokerError>>> =>
    Effect.matchEffect(
      retryTransient(store.ask((sql) => startAll(sql, starts), {
        characters: starts.reduce((sum, start) => sum + weighStart(start), 0)
      })),
      {
        onSuccess: (answers) => {
          started(starts, answers)
          return Effect.succeed(answers.map((answer) => Exit.succeed(answer)))
        },
        onFailure: (error) => {
          if (starts.length === 1 || !isBadValue(error)) {
            return Effect.succeed(starts.map(() => Exit.fail(unavailable("start")(error))))
          }
          const middle = Math.ceil(starts.length / 2)
          return Effect.zipWith(
            startBatch(starts.slice(0, middle)),
            startBatch(starts.slice(middle)),
            (first, second) => [...first, ...second]
          )
        }
      }
    )

  const batchedStart = yield* Batcher.make<Start, RunStore.Started>({
    concurrency: 2,
    maxWeight: maxStartWeight,
    weigh: weighStart,
    // Two starts of one run in one statement could not both learn what became of it.
    marks: ({ run }) => [run.id],
    run: startBatch
  })

  const sendAll = (sql: PgClient.PgClient, messages: ReadonlyArray<RunStore.Message>) =>
    Effect.asVoid(sql`
      SELECT ${s}.send_messages(
        ${arrays.uuid(messages.map(({ run }) => run))},
        ${arrays.text(messages.map(({ key }) => key))},
        ${arrays.text(messages.map(({ value }) => value))}
      )
    `)

  const load = Effect.fnUntraced(function*(run: RunStore.RunId, after: number) {
    const entries: Array<RunStore.JournalEntry> = []
    const begin = Math.max(0, Math.floor(after) || 0)
    // A position is an integer in Postgres.
    while (entries.length < RunStore.maxLoaded && begin + entries.length < maxPosition) {
      const from = begin + entries.length
      const rows = yield* store.own(
        (sql) =>
          sql<{ readonly key: string; readonly outside: boolean; readonly value: string; readonly at_millis: number }>`
          SELECT * FROM ${s}.load_run(${run}, ${from}, ${RunStore.maxLoaded - entries.length}, ${maxBytes})
        `,
        { characters: maxBytes }
      )
      if (rows.length === 0) break
      for (const { at_millis, key, outside, value } of rows) {
        entries.push({ key, source: outside ? "outside" : "run", value, atMillis: at_millis })
      }
    }
    return entries
  })

  const activations = (
    asked: Effect.Effect<ReadonlyArray<RunRow>, SqlError>,
    operation: string
  ): Effect.Effect<ReadonlyArray<RunStore.Activation>, BrokerError> =>
    Effect.mapError(
      Effect.flatMap(asked, (rows) => Effect.forEach(rows, (row) => toActivation(store, row))),
      unavailable(operation)
    )

  const tell = Effect.fnUntraced(function*(run: RunStore.RunId) {
    let told: RunStore.Told | undefined
    for (let more = true; more;) {
      const [row] = yield* store.ask((sql) =>
        sql<{
          readonly name: string
          readonly workflow: string
          readonly payload: string
          readonly format: number
          readonly link: number
          readonly started_millis: number
          readonly entries: string
          readonly more: boolean
        }>`SELECT * FROM ${s}.tell_run(${run}, ${told?.entries.length ?? 0}, ${maxBytes / 2})`, {
        characters: maxBytes
      })
      if (row === undefined) return Option.none()
      const before: RunStore.Told["entries"] = told?.entries ?? []
      told = {
        id: run,
        name: row.name,
        workflow: row.workflow,
        payload: row.payload,
        format: row.format,
        link: row.link,
        startedAtMillis: row.started_millis,
        entries: [...before, ...unpack(row.entries)]
      }
      more = row.more
    }
    return Option.fromUndefinedOr(told)
  })

  const terminate = (run: RunStore.RunId, result: string) =>
    Effect.map(
      desk.partitions.filing(
        store.beside((sql) =>
          sql<Woken & { readonly was_open: boolean; readonly home: string | null }>`
            SELECT * FROM ${s}.terminate_run(${run}, ${result})
          `
        ),
        store.beside
      ),
      ([row]) => {
        notifier.woken(row!)
        if (row!.home !== null) notifier.runs([row!.home], [run])
        return row!.was_open
      }
    )

  const commit = yield* makeCommit(store, desk)

  const runs = RunStore.RunStore.of({
    isInTransaction: Effect.contextWith((context: Context.Context<never>) =>
      Effect.succeed(isJoined(context) || Context.get(context, CurrentTransaction) !== undefined)
    ),

    start: (run, { messages, owner }) => {
      const refusal = RunInput.checkRun(run)
        ?? RunInput.checkMessages(messages.map((message) => ({ ...message, run: run.id })))
      if (refusal !== undefined) return Effect.fail(refusal)
      const start = { run, owner: Option.getOrNull(Option.filter(owner, isUuid)), messages }
      const joined = { ...start, owner: null }
      return joining({
        joined: (sql) => Effect.map(startAll(sql, [joined]), ([answer]) => answer!),
        committed: (answer) => started([joined], [answer]),
        alone: batchedStart(start),
        operation: "start"
      })
    },

    claim: ({ ids, limit, supervisor, workflows }) => {
      const most = Math.min(Math.floor(limit), maxClaimed)
      const wanted = ids?.filter(isUuid)
      if (!isUuid(supervisor) || !(most > 0) || (wanted ?? workflows).length === 0) return Effect.succeed([])
      const lanes = [...new Set(workflows.map((name) => laneId(RunStore.laneOf(name))))]
      const asked = store.own((sql) =>
        sql<RunRow>`
          SELECT * FROM ${s}.claim_runs(
            ${supervisor}, ${arrays.int8(lanes)}, ${wanted === undefined ? null : arrays.uuid(wanted)}, ${most},
            ${maxBytes}, ${maxUnread}, ${maxUnreadBytes}
          )
        `, { characters: maxBytes })
      return activations(asked, "claim runs")
    },

    owned: (supervisor) => {
      if (!isUuid(supervisor)) return Effect.succeed([])
      const asked = store.own(
        (sql) => sql<RunRow>`SELECT * FROM ${s}.owned_runs(${supervisor}, ${maxUnread}, ${maxUnreadBytes})`,
        { characters: maxBytes }
      )
      return activations(asked, "owned runs")
    },

    load: (run, after) => isUuid(run) ? Effect.mapError(load(run, after), unavailable("load")) : Effect.succeed([]),

    tell: (run) => isUuid(run) ? Effect.mapError(tell(run), unavailable("tell")) : Effect.succeedNone,

    commit: (supervisor, item) => {
      const refusal = RunInput.checkCommit(item)
      return refusal === undefined ? commit(supervisor, item) : Effect.fail(refusal)
    },

    terminate: (run, result) =>
      isUuid(run) ? Effect.mapError(terminate(run, result), unavailable("terminate")) : Effect.succeed(false),

    send: (messages) => {
      const refusal = RunInput.checkMessages(messages)
      if (refusal !== undefined) return Effect.fail(refusal)
      return messages.length === 0 ? Effect.void : joining({
        joined: (sql) => sendAll(sql, messages),
        committed: wakes.start,
        alone: Effect.map(
          Effect.mapError(store.ask((sql) => sendAll(sql, messages)), unavailable("send")),
          wakes.start
        ),
        operation: "send"
      })
    }
  })

  const duties: ReadonlyArray<Duty> = [
    {
      name: "wake",
      interval: Duration.seconds(1),
      perform: Effect.mapError(wakes.apply, unavailable("wake"))
    },
    {
      name: "forget messages",
      interval: Duration.minutes(10),
      perform: Effect.map(
        Effect.mapError(
          store.beside((sql) =>
            sql<{ readonly forgotten: number }>`
              SELECT ${s}.forget_messages(${maxForgotten}, ${Duration.toMillis(inboxAge)}) AS forgotten
            `
          ),
          unavailable("forget messages")
        ),
        ([row]) => row!.forgotten === maxForgotten
      )
    }
  ]
  return { runs, duties }
})

const otherTransaction = (operation: string): BrokerError =>
  new BrokerError({
    reason: new OtherTransaction({
      detail: `this fiber is in a transaction of a SqlClient other than the store's, so the ${operation} could not be `
        + "part of it: give the store the same PgClient, or do it outside that transaction"
    })
  })

const both = Effect.fnUntraced(function*(store: Store, options: SharedOptions) {
  const desk = yield* makeDesk(store, options)
  const { duties, runs } = yield* make(store, desk)
  const broker = yield* PgBroker.over(store, desk, options)
  return Context.make(RunStore.RunStore, runs).pipe(
    Context.add(Broker, { ...broker, duties: [...broker.duties, ...duties] })
  )
})

/**
 * A store of runs and the broker, over the app's own client.
 *
 * @category layers
 */
export const layer = (
  options: PgBroker.Options = {}
): Layer.Layer<RunStore.RunStore | Broker, never, PgClient.PgClient> =>
  Layer.effectContext(
    Effect.flatMap(PgStore.make(options), (store) => PgBroker.outside(store, both(store, options)))
  )

/**
 * A store of runs and the broker, over a store that they share with other services.
 *
 * @category layers
 */
export const layerShared = (
  options: SharedOptions = {}
): Layer.Layer<RunStore.RunStore | Broker, never, PgStore.PgStore> =>
  Layer.effectContext(
    Effect.flatMap(PgStore.PgStore, (store) => PgBroker.outside(store, both(store, options)))
  )

/**
 * Runs of workflows: starting them, and handles on them for any process.
 *
 * Effect's own `Workflow.execute`, `poll`, `interrupt` and `resume` work as ever. A handle adds what they have not.
 *
 * ```ts
 * const run = yield* Run.start(Order, { id: "1" })
 * yield* run.signal(Approve, { by: "grace" })
 * const receipt = yield* run.await
 * ```
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Workflow from "effect/workflow/Workflow"
import type { WorkflowEngine, WorkflowInstance } from "effect/workflow/WorkflowEngine"
import { BrokerError, InvalidPayload } from "./BrokerError.ts"
import { printable } from "./BrokerInput.ts"
import * as codecs from "./internal/run/codecs.ts"
import { Current, sourceOf } from "./internal/run/current.ts"
import * as Limits from "./Limits.ts"
import * as engine from "./internal/run/engine.ts"
import { runIdOf } from "./internal/run/ids.ts"
import { signalKey } from "./internal/run/keys.ts"
import { describe } from "./internal/run/mismatch.ts"
import type { Resident } from "./internal/run/resident.ts"
import { decodeResult, endOf, terminated } from "./internal/run/result.ts"
import type * as Query from "./Query.ts"
import * as Replay from "./Replay.ts"
import type * as RunStore from "./RunStore.ts"
import * as Signal from "./Signal.ts"

/** The run was interrupted before it had a result. @category errors */
export class Cancelled extends Schema.TaggedClass<Cancelled>("@effect-ray/core/Run/Cancelled")("Cancelled", {}) {
  get message() {
    return "it was interrupted before it had a result"
  }
}

/** The run was terminated. @category errors */
export class Terminated extends Schema.TaggedClass<Terminated>("@effect-ray/core/Run/Terminated")("Terminated", {
  /** The reason that was given. */
  why: Schema.String
}) {
  get message() {
    return `it was terminated: ${this.why}`
  }
}

/** The time that its start allowed was over. @category errors */
export class TimedOut extends Schema.TaggedClass<TimedOut>("@effect-ray/core/Run/TimedOut")("TimedOut", {}) {
  get message() {
    return "its time was over before it had a result"
  }
}

/** The run is not known, or its record is not kept any more. @category errors */
export class NotFound extends Schema.TaggedClass<NotFound>("@effect-ray/core/Run/NotFound")("NotFound", {}) {
  get message() {
    return "it is not known, or its record is not kept any more"
  }
}

/** No process that has the workflow's code can answer. @category errors */
export class NoWorker extends Schema.TaggedClass<NoWorker>("@effect-ray/core/Run/NoWorker")("NoWorker", {}) {
  get message() {
    return "no worker has the code of its workflow"
  }
}

/** The code has no answer to this query, or has not come to where it says how to answer it. @category errors */
export class NoAnswer extends Schema.TaggedClass<NoAnswer>("@effect-ray/core/Run/NoAnswer")("NoAnswer", {
  query: Schema.String
}) {
  get message() {
    return `its code does not answer the query ${this.query}, or not yet`
  }
}

/** The code asks for something else than the run's history holds. @category errors */
export class Mismatched extends Schema.TaggedClass<Mismatched>("@effect-ray/core/Run/Mismatched")("Mismatched", {
  detail: Schema.String
}) {
  get message() {
    return this.detail
  }
}

/** Why a run has no result, or no answer. @category errors */
export const Reason = Schema.Union([Cancelled, Terminated, TimedOut, NotFound, NoWorker, NoAnswer, Mismatched])

/**
 * A run has no result of its own, or no answer.
 *
 * @category errors
 */
export class RunError extends Schema.TaggedError<RunError>("@effect-ray/core/Run/RunError")("RunError", {
  /** The workflow's name. */
  workflow: Schema.String,
  /** The run's id. */
  id: Schema.String,
  /** Why. */
  reason: Reason
}) {
  override get message() {
    return `the run ${this.id} of ${this.workflow}: ${this.reason.message}`
  }
}

/**
 * A handle on a run.
 *
 * @category models
 */
export interface Run<out A, out E, out R = never> {
  /** The run's id: the execution id of Effect's engine. */
  readonly id: string
  /** Waits for the end: the workflow's success, its error, or a `RunError`. A defect of the workflow is one here too. */
  readonly await: Effect.Effect<A, E | RunError, R>
  /**
   * Sends a signal. It is stored when this returns; the run receives it when it asks for it. Inside a transaction of the
   * app's SqlClient it is sent when that commits. In the body of a workflow it is sent once, with the run's next commit.
   */
  readonly signal: <S extends Signal.Any>(
    signal: S,
    ...payload: PayloadArgs<S>
  ) => Effect.Effect<void, BrokerError, S["payloadSchema"]["EncodingServices"]>
  /**
   * Asks the run a question. Fails with a `RunError`: `NotFound`, `NoWorker`, `NoAnswer`, or `Mismatched` if the code is
   * not the code that wrote the run's history.
   */
  readonly query: <Q extends Query.Any>(
    query: Q
  ) => Effect.Effect<
    Q["successSchema"]["Type"],
    RunError | BrokerError,
    Q["successSchema"]["DecodingServices"]
  >
  /** What the run was told until now, for replaying it. Fails with a `RunError`: `NotFound`. */
  readonly history: Effect.Effect<Replay.History, RunError | BrokerError>
  /**
   * Asks the run to stop: finalizers and compensations run, when it would wait next. Does nothing if it has ended.
   */
  readonly cancel: Effect.Effect<void>
  /**
   * Ends the run at once, whatever it does. No finalizer and no compensation runs. Returns false if it has ended, or is
   * unknown.
   */
  readonly terminate: (reason: string) => Effect.Effect<boolean, BrokerError>
}

/** A signal without a payload takes no argument. @category utility types */
export type PayloadArgs<S extends Signal.Any> = void extends S["payloadSchema"]["~type.make.in"] ? [payload?: void]
  : [payload: S["payloadSchema"]["~type.make.in"]]

/** A handle on a run of `W`. @category utility types */
export type Of<W extends Any> = Run<
  W["successSchema"]["Type"],
  W["errorSchema"]["Type"],
  W["successSchema"]["DecodingServices"] | W["errorSchema"]["DecodingServices"]
>

/** Any workflow, with its Schemas. @category utility types */
export type Any = Workflow.Any

/** What a workflow's payload is made from. @category utility types */
export type PayloadIn<W extends Any> = W["payloadSchema"]["~type.make.in"]

/**
 * Starts a run, and returns a handle at once. If the run of this payload's id is known, the handle is of that one, and
 * nothing has changed.
 *
 * Inside a transaction of the app's SqlClient the run is part of it. In the body of a workflow the run is its child.
 *
 * @category starting
 */
export const start = <W extends Any>(
  workflow: W,
  payload: PayloadIn<W>,
  options: StartOptions = {}
): Effect.Effect<Of<W>, BrokerError, WorkflowEngine | W["payloadSchema"]["EncodingServices"]> =>
  startWith(workflow, payload, [], options, "Run.start")

/** The options of a start. @category models */
export interface StartOptions {
  /**
   * How long the run may take, over all its links, by the store's clock. It is interrupted then, steps included;
   * finalizers and compensations run. Default: no limit.
   */
  readonly timeout?: Duration.Input
}

/**
 * Starts a run, or finds the one that is known, and sends it a signal. Both happen or neither.
 *
 * @category starting
 */
export const signalWithStart = <W extends Any, S extends Signal.Any>(
  workflow: W,
  payload: PayloadIn<W>,
  signal: S,
  ...args: PayloadArgs<S>
): Effect.Effect<
  Of<W>,
  BrokerError,
  WorkflowEngine | W["payloadSchema"]["EncodingServices"] | S["payloadSchema"]["EncodingServices"]
> =>
  Effect.flatMap(
    valueOf(signal, args[0]),
    (value) => startWith(workflow, payload, [{ key: signalKey(signal._tag), value }], {}, "Run.signalWithStart")
  )

const startWith = Effect.fnUntraced(function*(
  workflow: Any,
  payload: unknown,
  messages: ReadonlyArray<Omit<RunStore.Message, "run">>,
  options: StartOptions,
  what: string
): Effect.fn.Return<any, BrokerError, any> {
  const inside = yield* engine.inside(what)
  const made = (yield* Effect.orDie(workflow.payloadSchema.makeEffect(payload as never))) as object
  const executionId = yield* workflow.executionId(payload)
  const run: RunStore.NewRun = {
    ...yield* inside.newRun(workflow, executionId, made),
    timeout: Option.map(Option.fromUndefinedOr(options.timeout), Duration.fromInputUnsafe)
  }
  const current = yield* Current
  if (current === undefined) {
    yield* inside.host.start(workflow, run, false, messages)
  } else {
    const { resident } = current
    const child = Effect.sync(() => {
      resident.startChild({ run, detached: false })
      for (const message of messages) resident.sendMessage({ ...message, run: run.id })
      return "null"
    })
    yield* resident.once(`child:${run.id}`, sourceOf(current), resident.owned, child)
    if (!(yield* resident.stored)) return yield* Effect.interrupt
  }
  return handle(inside, workflow, executionId, run.id)
})

/**
 * A handle on the run of a payload, whether or not it has started.
 *
 * @category starting
 */
export const find = <W extends Any>(
  workflow: W,
  payload: PayloadIn<W>
): Effect.Effect<Of<W>, never, WorkflowEngine> =>
  Effect.flatMap(workflow.executionId(payload), (id) => byId(workflow, id))

/**
 * A handle on a run from its id, for instance in another process.
 *
 * @category starting
 */
export const byId = <W extends Any>(workflow: W, id: string): Effect.Effect<Of<W>, never, WorkflowEngine> =>
  Effect.gen(function*() {
    const inside = yield* engine.inside("Run.byId")
    return handle(inside, workflow, id, yield* runIdOf(workflow._tag, id)) as Of<W>
  })

/** What a run knows of itself. @category models */
export interface Info {
  /** The run's id: the execution id of Effect's engine. */
  readonly id: string
  /** How often it has continued as new, and once more. */
  readonly link: number
  /** How many entries of its history it has been given. */
  readonly length: number
  /** Whether the history is so long, by `suggestedLength` or `suggestedSize`, that it had better continue as new. */
  readonly continueSuggested: boolean
}

/** Histories with more entries had better continue as new: a replay reads all of them. @category constants */
export const suggestedLength = 10_000

/** Histories with more characters had better continue as new. @category constants */
export const suggestedSize = 10 * 1024 * 1024

const running = (what: string) =>
  Effect.flatMap(Current, (current) =>
    current === undefined || current.step !== undefined
      ? Effect.die(new Error(`${what}: only the body of a workflow is a run`))
      : Effect.succeed(current.resident))

/**
 * What the run whose body this is knows of itself. A replay knows the same.
 *
 * @category running
 */
export const info: Effect.Effect<Info, never, WorkflowInstance> = Effect.map(running("Run.info"), (resident) => {
  const { length, link, size } = resident.info()
  return {
    id: resident.name,
    link,
    length,
    continueSuggested: length >= suggestedLength || size >= suggestedSize
  }
})

/**
 * Ends this link of the run, and begins the next one with another payload and an empty history. The id stays, and so do
 * signals that were not received. No finalizer and no compensation of this link runs. Never returns.
 *
 * @category running
 */
export const continueAsNew = <W extends Any>(
  workflow: W,
  payload: PayloadIn<W>
): Effect.Effect<never, never, WorkflowInstance | W["payloadSchema"]["EncodingServices"]> =>
  Effect.gen(function*() {
    const resident = yield* running("Run.continueAsNew")
    if (resident.workflow !== workflow._tag) {
      return yield* Effect.die(
        new Error(`Run.continueAsNew: a run of ${resident.workflow} cannot continue as ${workflow._tag}`)
      )
    }
    const made = (yield* Effect.orDie(workflow.payloadSchema.makeEffect(payload as never))) as object
    resident.continueAs(yield* Effect.orDie(codecs.ofWorkflow(workflow).encodePayload(made)))
    return yield* Effect.interrupt
  })

const handle = (
  inside: engine.Inside,
  workflow: Any,
  id: string,
  run: RunStore.RunId
): Run<unknown, unknown, unknown> => {
  const { host, request, resultOf, store } = inside
  const fail = (reason: typeof Reason.Type) => new RunError({ workflow: workflow._tag, id, reason })
  const told = Effect.flatMap(
    store.tell(run),
    (told) => Option.isSome(told) ? Effect.succeed(told.value) : Effect.fail(fail(new NotFound()))
  )
  const answerOf = ({ queries }: Resident, query: Query.Any) =>
    queries.get(query._tag) ?? Effect.fail(fail(new NoAnswer({ query: query._tag })))
  const answer = Effect.fnUntraced(function*(query: Query.Any) {
    const resident = host.find(run)
    if (resident !== undefined && (yield* resident.current)) return yield* answerOf(resident, query)
    const replayed = host.replay(yield* told, (resident) => answerOf(resident, query))
    if (replayed === undefined) return yield* fail(new NoWorker())
    return yield* Effect.mapError(
      replayed,
      (error) => error instanceof RunError ? error : fail(new Mismatched({ detail: describe(error) }))
    )
  })
  return {
    id,
    await: Effect.flatMap(
      Effect.flatMap(resultOf(run), (result) => {
        const end = endOf(result)
        if (end === undefined) return decodeResult(workflow, result)
        return Effect.fail(fail(end._tag === "TimedOut" ? new TimedOut() : new Terminated({ why: end.reason })))
      }),
      ({ exit }): Effect.Effect<unknown, unknown> =>
        Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
          ? Effect.fail(fail(new Cancelled()))
          : exit
    ),
    signal: (signal: Signal.Any, ...args: ReadonlyArray<unknown>) =>
      Effect.gen(function*() {
        const message = { run, key: signalKey(signal._tag), value: yield* valueOf(signal, args[0]) }
        const current = yield* Current
        if (current === undefined) return yield* store.send([message])
        const { resident } = current
        const name = `send:${signal._tag}:${run}`
        yield* resident.once(
          `${name}/${resident.count(name)}`,
          sourceOf(current),
          resident.owned,
          Effect.sync(() => {
            resident.sendMessage(message)
            return "null"
          })
        )
      }) as never,
    query: (query: Query.Any) =>
      Effect.flatMap(
        answer(query),
        (json) =>
          Effect.orDie(Schema.decodeEffect(Schema.fromJsonString(Schema.toCodecJson(query.successSchema)))(json))
      ) as never,
    history: Effect.map(
      told,
      ({ entries, format, payload, startedAtMillis }) =>
        new Replay.History({
          version: 1,
          workflow: workflow._tag,
          id,
          payload,
          format,
          startedAtMillis,
          entries: entries.map((entry) => new Replay.Entry(entry))
        })
    ),
    cancel: request(run, "cancel"),
    terminate: (reason) => store.terminate(run, terminated(printable(reason, Limits.maxDetailLength)))
  }
}

const valueOf = <S extends Signal.Any>(
  signal: S,
  payload: unknown
): Effect.Effect<string, BrokerError, S["payloadSchema"]["EncodingServices"]> =>
  Effect.mapError(
    Signal.encode(signal, payload as never),
    ({ message }) => new BrokerError({ reason: new InvalidPayload({ task: signal._tag, detail: message }) })
  )

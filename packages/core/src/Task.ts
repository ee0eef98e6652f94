/**
 * Definitions of work, and enqueueing it.
 *
 * A task is a name with Schemas for payload, success and error, and options. The
 * definition travels to every app that enqueues; its handler (`task.toLayer`) lives
 * only where the work runs. `Task.enqueue` stores an execution, inside the app's own
 * transaction when there is one, and answers a handle whose `await` is typed.
 *
 * ```ts
 * class Render extends Task.make("Render", {
 *   payload: { url: Schema.String, pages: Schema.Int },
 *   success: Schema.Struct({ bytes: Schema.Int }),
 *   error: OutOfInk
 * }) {}
 *
 * const execution = yield* Task.enqueue(Render, { url, pages: 3 }, { delay: "10 seconds" })
 * const { bytes } = yield* execution.await
 * ```
 */
import * as Cause from "effect/Cause"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Pipeable from "effect/Pipeable"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import * as Broker from "./Broker.ts"
import { BrokerError, InvalidId, InvalidPayload } from "./BrokerError.ts"
import { isUuid } from "./BrokerInput.ts"
import * as Envelope from "./Envelope.ts"
import * as Execution from "./Execution.ts"
import type { Handler } from "./Handler.ts"
import * as handler from "./Handler.ts"
import { canonical } from "./internal/canonical.ts"
import * as definition from "./internal/definition.ts"
import { encodePayload } from "./internal/payload.ts"
import { sanitise } from "./internal/text.ts"
import { currentTraceparent } from "./internal/trace.ts"
import * as Limits from "./Limits.ts"
import type * as Retry from "./Retry.ts"
import { describe, TaskError } from "./TaskError.ts"

export { TaskError }

const TypeId = "~@effect-ray/core/Task"

/**
 * A Schema for errors: it decodes and encodes without services, because retry policies run anywhere.
 *
 * @category models
 */
export interface ErrorSchema extends Schema.Top {
  readonly DecodingServices: never
  readonly EncodingServices: never
}

/**
 * Resources and sharing of the host that runs a task on Ray.
 *
 * @category models
 */
export interface Placement {
  /** `pool`: warm hosts shared with other tasks of the same placement. */
  readonly mode?: "pool"
  /** CPUs of one pool host; it runs one handler thread per whole CPU. Default 1. */
  readonly cpus?: number
  /** Bytes of memory Ray reserves for one pool host. */
  readonly memory?: number
  /** Custom Ray resources of one pool host. */
  readonly resources?: Readonly<Record<string, number>>
  /**
   * Attempts that run at once in one handler thread. Default 10. A Python host runs so many in one process, by default 1:
   * a plain function that will not stop takes its process down, and what else runs there with it.
   */
  readonly concurrency?: number
  /** The most hosts of this placement. Default: as many as the cluster has CPUs for. */
  readonly maxHosts?: number
  /** `main` runs purely asynchronous handlers on the host's main thread, where nothing can stop a busy loop. Default `worker`. */
  readonly thread?: "worker" | "main"
  /** Python packages to install for the hosts, as Ray's `runtime_env` takes them. */
  readonly runtimeEnv?: { readonly pip?: ReadonlyArray<string> }
}

/**
 * The options of `Task.make`.
 *
 * @category models
 */
export interface Options<
  P extends Schema.Top | Schema.Struct.Fields = Schema.Void,
  S extends Schema.Top = Schema.Void,
  E extends ErrorSchema = Schema.Never
> {
  /** A Schema, or the fields of a struct. Default: no payload. */
  readonly payload?: P
  readonly success?: S
  readonly error?: E
  /** Default `default`. Where it is changed, what is queued stays in the old queue, which some worker has to serve. */
  readonly queue?: string
  /** Default: 3 attempts in all, exponential from 1 second with jitter, capped at 5 minutes. */
  readonly retry?: Retry.Policy<E["Type"]>
  /** The limit of one attempt. Default 1 hour. */
  readonly timeout?: Duration.Input
  /** The same key enqueued again answers the existing execution. Scope: the task. At most `Limits.maxKeyBytes`. */
  readonly idempotencyKey?: (payload: PayloadSchema<P>["Type"]) => string
  /** 0 to 9, 9 first. Default 5. */
  readonly priority?: number
  /** Never run again once an attempt may have started, not for a retry either. Default false. */
  readonly atMostOnce?: boolean
  readonly placement?: Placement
}

/**
 * A Schema that decodes without services. Those of Python tasks do: the worker checks by them what a Python function is given and
 * what it answers.
 *
 * @category models
 */
export interface PlainSchema extends Schema.Top {
  readonly DecodingServices: never
}

/** The fields of a struct, each of which decodes without services. @category models */
export interface PlainFields extends Schema.Struct.Fields {
  readonly [key: PropertyKey]: PlainSchema
}

/** The Schema of a payload that was given as a Schema or as the fields of a struct. @category utility types */
export type PayloadSchema<P extends Schema.Top | Schema.Struct.Fields> = P extends Schema.Struct.Fields
  ? Schema.Struct<P>
  : P extends Schema.Top ? P
  : never

/**
 * What every kind of task has.
 *
 * @category models
 */
export interface Definition<
  out Tag extends string,
  out Payload extends Schema.Top,
  out Success extends Schema.Top,
  out Error extends ErrorSchema
> extends Pipeable.Pipeable {
  new(_: never): {}
  readonly [TypeId]: typeof TypeId
  readonly _tag: Tag
  readonly payloadSchema: Payload
  readonly successSchema: Success
  readonly errorSchema: Error
  readonly options: ResolvedOptions
}

/**
 * Options with their defaults filled in.
 *
 * @category models
 */
export interface ResolvedOptions {
  readonly queue: string
  readonly priority: number
  readonly timeout: Duration.Duration
  readonly atMostOnce: boolean
  readonly placement: Placement
  /** Undecoded: the policy takes the decoded error, whose type the definition knows. */
  readonly retry: Retry.Policy<unknown> | undefined
  readonly idempotencyKey: ((payload: unknown) => string) | undefined
}

/**
 * A task with an Effect handler.
 *
 * @category models
 */
export interface Task<
  Tag extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends ErrorSchema
> extends Definition<Tag, Payload, Success, Error> {
  readonly runtime: "effect"
  /** Gives the task its handler. What the handler needs becomes what the layer needs. */
  readonly toLayer: <R>(
    handler: (payload: Payload["Type"]) => Effect.Effect<Success["Type"], Error["Type"], R>
  ) => Layer.Layer<
    Handler<Tag>,
    never,
    Exclude<R, handler.Attempt | Scope> | Payload["DecodingServices"] | Success["EncodingServices"]
  >
}

/**
 * A task whose handler is a Python function, found by module and function name. It runs on Ray only.
 *
 * @category models
 */
export interface PythonTask<
  Tag extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends ErrorSchema
> extends Definition<Tag, Payload, Success, Error> {
  readonly runtime: "python"
  readonly module: string
  readonly function: string
}

/** Any task, whatever its payload, success and error: for functions that take tasks. @category models */
export interface Any extends Definition<string, Schema.Top, Schema.Top, ErrorSchema> {
  readonly runtime: "effect" | "python"
}

/** The handlers that a set of tasks needs: one for each Effect task, none for Python. @category utility types */
export type HandlerOf<T extends Any> = T extends { readonly runtime: "effect" } ? Handler<T["_tag"]> : never

type PayloadIn<T extends Any> = T["payloadSchema"]["~type.make.in"]

/**
 * The arguments after the task: a payload, unless it is void, and options.
 *
 * @category utility types
 */
export type Args<T extends Any, O> = unknown extends PayloadIn<T> ? [payload: PayloadIn<T>, options?: O]
  : void extends PayloadIn<T> ? [payload?: void, options?: O]
  : [payload: PayloadIn<T>, options?: O]

const Proto = {
  [TypeId]: TypeId,
  pipe(this: unknown, ...operations: ReadonlyArray<(self: unknown) => unknown>) {
    return operations.reduce((self, operation) => operation(self), this)
  }
}

const define = (tag: string, options: Options<any, any, any>, own: object) => {
  function TaskDefinition() {}
  Object.setPrototypeOf(TaskDefinition, Proto)
  const payload = options.payload ?? Schema.Void
  const { placement = {}, priority = Broker.defaultPriority, queue = Limits.defaultQueue, retry } = options
  definition.check({ name: tag, queue, priority, attempts: attemptsOf(retry), placement })
  return Object.assign(TaskDefinition, {
    _tag: tag,
    payloadSchema: Schema.isSchema(payload) ? payload : Schema.Struct(payload as Schema.Struct.Fields),
    successSchema: options.success ?? Schema.Void,
    errorSchema: options.error ?? Schema.Never,
    options: {
      queue,
      priority,
      timeout: definition.timeout(tag, options.timeout ?? Limits.defaultTimeout),
      atMostOnce: options.atMostOnce ?? false,
      placement,
      retry,
      idempotencyKey: options.idempotencyKey
    },
    ...own
  })
}

/**
 * Defines a task. Extend it as a class: hovers and messages then say the class's name.
 *
 * @category constructors
 */
export const make = <
  const Tag extends string,
  P extends Schema.Top | Schema.Struct.Fields = Schema.Void,
  S extends Schema.Top = Schema.Void,
  E extends ErrorSchema = Schema.Never
>(
  tag: Tag,
  options?: Options<P, S, E>
): Task<Tag, P extends Schema.Struct.Fields ? Schema.Struct<P> : P extends Schema.Top ? P : never, S, E> =>
  define(tag, options ?? {}, {
    runtime: "effect",
    toLayer(this: Any, run: (payload: unknown) => Effect.Effect<unknown, unknown, unknown>) {
      return handler.layer(this, run)
    }
  }) as any

/**
 * Defines a task whose work is a Python function.
 *
 * A struct payload arrives as keyword arguments, no payload as none, anything else as the one argument. The module is imported by
 * name from the folder that `Worker.make({ python })` uploads. What the function returns has to fit `success`; without one it
 * is of no interest.
 *
 * @category constructors
 */
export const python = <
  const Tag extends string,
  P extends PlainSchema | PlainFields = Schema.Void,
  S extends PlainSchema = Schema.Void,
  E extends ErrorSchema = Schema.Never
>(
  tag: Tag,
  options: Options<P, S, E> & { readonly module: string; readonly function: string }
): PythonTask<Tag, P extends Schema.Struct.Fields ? Schema.Struct<P> : P extends Schema.Top ? P : never, S, E> =>
  define(tag, options, { runtime: "python", module: options.module, function: options.function }) as any

/**
 * Whether a value is a task definition.
 *
 * @category guards
 */
export const isTask = (u: unknown): u is Any => typeof u === "function" && TypeId in u

/**
 * The options of `Task.enqueue`.
 *
 * @category models
 */
export interface EnqueueOptions {
  /** Due after this long, by the broker's clock. Not together with `runAt`. */
  readonly delay?: Duration.Input
  /** Due at this time, by the broker's clock. */
  readonly runAt?: DateTime.Utc
  /** 0 to 9, 9 first. Default: the task's. */
  readonly priority?: number
  /** Default: the task's. Of `enqueueAll` it makes all of them one, so their payloads have to be the same. */
  readonly idempotencyKey?: string
  /** How long the key is kept. Default: as long as the execution's record. */
  readonly keyTimeToLive?: Duration.Input
  /** The execution becomes `expired` when it was not started this long after the enqueue. */
  readonly startBy?: Duration.Input
  /** For search. */
  readonly tags?: Readonly<Record<string, string>>
}

/**
 * A handle on an execution of `T`.
 *
 * @category utility types
 */
export type ExecutionOf<T extends Any> = Execution.Execution<
  T["successSchema"]["Type"],
  T["errorSchema"]["Type"],
  T["successSchema"]["DecodingServices"]
>

/**
 * Stores an execution of the task and answers its handle.
 *
 * Inside `sql.withTransaction` of the app's own SqlClient the execution commits and rolls back with it.
 * Fails with `BrokerError`: `InvalidPayload` or `PayloadTooLarge` (nothing was written), `KeyConflict`,
 * `OtherTransaction`, `Unavailable`.
 *
 * @category enqueueing
 */
export const enqueue = <T extends Any>(
  task: T,
  ...args: Args<T, EnqueueOptions>
): Effect.Effect<ExecutionOf<T>, BrokerError, Broker.Broker | T["payloadSchema"]["EncodingServices"]> =>
  Effect.withSpan(
    Effect.map(store(task, [args[0] as PayloadIn<T>], args[1]), (executions) => executions[0]!),
    "Task.enqueue",
    { kind: "producer", attributes: { "effect_ray.task": task._tag }, captureStackTrace: false }
  )

/**
 * Stores an execution for each payload, in one statement, all of them or none.
 *
 * @category enqueueing
 */
export const enqueueAll = <T extends Any>(
  task: T,
  payloads: ReadonlyArray<PayloadIn<T>>,
  options?: EnqueueOptions
): Effect.Effect<
  ReadonlyArray<ExecutionOf<T>>,
  BrokerError,
  Broker.Broker | T["payloadSchema"]["EncodingServices"]
> =>
  Effect.withSpan(store(task, payloads, options), "Task.enqueueAll", {
    kind: "producer",
    attributes: { "effect_ray.task": task._tag, "effect_ray.executions": payloads.length },
    captureStackTrace: false
  })

const store = Effect.fnUntraced(function*<T extends Any>(
  task: T,
  payloads: ReadonlyArray<PayloadIn<T>>,
  options: EnqueueOptions | undefined
): Effect.fn.Return<
  ReadonlyArray<ExecutionOf<T>>,
  BrokerError,
  Broker.Broker | T["payloadSchema"]["EncodingServices"]
> {
  const broker = yield* Broker.Broker
  const { timeToLive, ...shared } = yield* resolveOptions(task, options ?? {})
  const traceparent = yield* currentTraceparent
  const rows: Array<Broker.NewExecution> = []
  for (const payload of payloads) {
    const { text, value } = yield* encodePayload(task, payload)
    const key = options?.idempotencyKey ?? (yield* keyOf(task, value))
    rows.push({
      ...shared,
      id: SecureRandom.uuidV7Unsafe(),
      payload: text,
      traceparent,
      idempotencyKey: Option.map(
        Option.fromUndefinedOr(key),
        (key) => ({ key, timeToLive, identity: canonical(text, task.payloadSchema.ast) })
      )
    })
  }
  const enqueued = yield* broker.enqueue(rows)
  return enqueued.map(({ deduplicated, id }) => Execution.make(task, broker, id, deduplicated))
})

/** As much of an id that is none as an error tells. */
const maxIdLength = 100

/**
 * A handle on an execution from its id, for instance in another process. Fails with `BrokerError`: `InvalidId`, for what is
 * no UUID. What only the row can tell is left to `await` and `poll`: that the id is unknown, or belongs to another task.
 *
 * @category enqueueing
 */
export const execution = <T extends Any>(
  task: T,
  id: Broker.ExecutionId
): Effect.Effect<ExecutionOf<T>, BrokerError, Broker.Broker> =>
  Effect.flatMap(Effect.service(Broker.Broker), (broker) =>
    isUuid(id)
      ? Effect.succeed(Execution.make(task, broker, id.toLowerCase(), false))
      : Effect.fail(
        new BrokerError({
          reason: new InvalidId({
            task: task._tag,
            id: sanitise(String(id), maxIdLength),
            detail: "is not the id of an execution, which is a UUID"
          })
        })
      ))

const invalid = (task: Any, detail: string): BrokerError =>
  new BrokerError({ reason: new InvalidPayload({ task: task._tag, detail }) })

/** The task's own key for a payload. The function is the app's code, and may throw. */
const keyOf = (task: Any, payload: unknown): Effect.Effect<string | undefined, BrokerError> => {
  const { idempotencyKey } = task.options
  return idempotencyKey === undefined ? Effect.undefined : Effect.try({
    try: () => idempotencyKey(payload),
    catch: (error) => invalid(task, `its idempotencyKey failed: ${describe(handler.defect(Cause.die(error)))}`)
  })
}

const durationOf = (
  task: Any,
  what: string,
  input: Duration.Input | undefined
): Effect.Effect<Option.Option<Duration.Duration>, BrokerError> => {
  if (input === undefined) return Effect.succeedNone
  const duration = Duration.fromInput(input)
  return Option.isSome(duration)
    ? Effect.succeed(duration)
    : Effect.fail(invalid(task, `${what} is ${Formatter.format(input)}: expected a duration`))
}

const resolveOptions = Effect.fnUntraced(function*(task: Any, options: EnqueueOptions) {
  if (options.delay !== undefined && options.runAt !== undefined) {
    return yield* invalid(task, "give either delay or runAt, not both")
  }
  const delay = yield* durationOf(task, "delay", options.delay)
  const startBy = yield* durationOf(task, "startBy", options.startBy)
  const timeToLive = yield* durationOf(task, "keyTimeToLive", options.keyTimeToLive)
  const maxAttempts = yield* Limits.MaxAttempts
  const due: Broker.Due = options.runAt !== undefined
    ? { _tag: "At", at: options.runAt }
    : Option.isSome(delay)
    ? { _tag: "After", delay: delay.value }
    : { _tag: "Now" }
  return {
    task: task._tag,
    queue: task.options.queue,
    priority: options.priority ?? task.options.priority,
    format: Envelope.format,
    due,
    maxAttempts: task.options.atMostOnce ? 1 : attemptsOf(task.options.retry) ?? maxAttempts,
    timeout: task.options.timeout,
    startBy: Option.map(startBy, (delay): Broker.Due => ({ _tag: "After", delay })),
    timeToLive,
    atMostOnce: task.options.atMostOnce,
    tags: options.tags ?? {}
  }
})

/** A bare Schedule says nothing about the number of attempts: it ends by itself. */
const attemptsOf = (retry: Retry.Policy<unknown> | undefined): number | undefined => {
  if (retry === undefined) return undefined
  return Schedule.isSchedule(retry) ? Limits.maxAttemptsOfSchedule : retry.attempts
}

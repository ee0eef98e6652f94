/**
 * Defining and enqueueing work.
 *
 * A task is a name with Schemas for payload, success and error, and options. Every app
 * that enqueues imports the definition; its handler (`task.toLayer`) exists only where
 * the work runs. `Task.enqueue` stores an execution, inside the app's own transaction
 * if there is one, and returns a handle whose `await` is typed.
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
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import type * as Schema from "effect/Schema"
import type { Scope } from "effect/Scope"
import type { WorkflowInstance } from "effect/workflow/WorkflowEngine"
import * as Broker from "./Broker.ts"
import { BrokerError, InvalidId } from "./BrokerError.ts"
import { isUuid } from "./BrokerInput.ts"
import * as definition from "./Definition.ts"
import type { Any, Definition, ErrorSchema, Options, PayloadIn, PlainFields, PlainSchema } from "./Definition.ts"
import * as Execution from "./Execution.ts"
import type { Handler } from "./Handler.ts"
import * as handler from "./Handler.ts"
import * as enqueueing from "./internal/enqueue.ts"
import type { EnqueueOptions } from "./internal/enqueue.ts"
import * as taskStep from "./internal/run/taskStep.ts"
import type { ExecuteOptions } from "./internal/run/taskStep.ts"
import { sanitise } from "./internal/text.ts"
import { TaskError } from "./TaskError.ts"

export {
  type Any,
  type Definition,
  type ErrorSchema,
  isTask,
  type Options,
  type PayloadSchema,
  type Placement,
  type PlainFields,
  type PlainSchema,
  type ResolvedOptions,
  type ResolvedPlacement
} from "./Definition.ts"
export type { Of as ExecutionOf } from "./Execution.ts"
export type { HandlerOf } from "./Handler.ts"
export type { EnqueueOptions } from "./internal/enqueue.ts"
export type { ExecuteOptions } from "./internal/run/taskStep.ts"
export { TaskError }

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
  /** The handler is an Effect. */
  readonly runtime: "effect"
  /** Makes the layer of the task's handler. The layer needs the services that the handler needs. */
  readonly toLayer: <R>(
    handler: (payload: Payload["Type"]) => Effect.Effect<Success["Type"], Error["Type"], R>
  ) => Layer.Layer<
    Handler<Tag>,
    never,
    Exclude<R, handler.Attempt | Scope> | Payload["DecodingServices"] | Success["EncodingServices"]
  >
}

/**
 * A task whose handler is a Python function. It runs on Ray only.
 *
 * @category models
 */
export interface PythonTask<
  Tag extends string,
  Payload extends Schema.Top,
  Success extends Schema.Top,
  Error extends ErrorSchema
> extends Definition<Tag, Payload, Success, Error> {
  /** The handler is a Python function. */
  readonly runtime: "python"
  /** The dotted name of the Python module. */
  readonly module: string
  /** The function in the module, or `Class.method`. */
  readonly function: string
}

/**
 * The arguments after the task: a payload, unless the task has none, and options.
 *
 * @category utility types
 */
export type Args<T extends Any, O> = unknown extends PayloadIn<T> ? [payload: PayloadIn<T>, options?: O]
  : void extends PayloadIn<T> ? [payload?: void, options?: O]
  : [payload: PayloadIn<T>, options?: O]

/**
 * Defines a task. Extend it as a class, so that hovers and messages show the class's name.
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
  definition.make(tag, options ?? {}, {
    runtime: "effect",
    toLayer(this: Any, run: (payload: unknown) => Effect.Effect<unknown, unknown, unknown>) {
      return handler.layer(this, run)
    }
  }) as any

/**
 * Defines a task whose work is done by a Python function.
 *
 * A struct payload arrives as keyword arguments, no payload as no argument, anything else as the only argument. The
 * module is imported by name from the folder that `Worker.make({ python })` uploads. What the function returns must fit
 * `success`; without `success` it is ignored.
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
  definition.make(tag, options, { runtime: "python", module: options.module, function: options.function }) as any

/**
 * Stores an execution of the task and returns its handle.
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
): Effect.Effect<Execution.Of<T>, BrokerError, Broker.Broker | T["payloadSchema"]["EncodingServices"]> =>
  Effect.withSpan(
    Effect.map(enqueueing.store(task, [args[0] as PayloadIn<T>], args[1]), (executions) => executions[0]!),
    "Task.enqueue",
    { kind: "producer", attributes: { "effect_ray.task": task._tag }, captureStackTrace: false }
  )

/**
 * Stores an execution for each payload in one statement, all of them or none.
 *
 * @category enqueueing
 */
export const enqueueAll = <T extends Any>(
  task: T,
  payloads: ReadonlyArray<PayloadIn<T>>,
  options?: EnqueueOptions
): Effect.Effect<
  ReadonlyArray<Execution.Of<T>>,
  BrokerError,
  Broker.Broker | T["payloadSchema"]["EncodingServices"]
> =>
  Effect.withSpan(enqueueing.store(task, payloads, options), "Task.enqueueAll", {
    kind: "producer",
    attributes: { "effect_ray.task": task._tag, "effect_ray.executions": payloads.length },
    captureStackTrace: false
  })

/**
 * Executes the task as a step of a workflow, and returns its success. The step's end is recorded in the run, which waits
 * for it without a process. Only in the body of a workflow.
 *
 * Retries, timeouts and placement are the task's own. If the run no longer waits for it, because it was cancelled or
 * lost a race, the execution is cancelled. Fails with the task's declared error, or with a `TaskError` that has the
 * reason. A payload that does not fit the Schema is a defect.
 *
 * @category workflows
 */
export const execute = <T extends Any>(
  task: T,
  ...args: Args<T, ExecuteOptions>
): Effect.Effect<
  T["successSchema"]["Type"],
  T["errorSchema"]["Type"] | TaskError,
  WorkflowInstance | T["payloadSchema"]["EncodingServices"] | T["successSchema"]["DecodingServices"]
> => taskStep.execute(task, args[0], args[1])

/**
 * Executes the task once for each payload, as steps of a workflow, and returns the successes in the order of the
 * payloads. At most `concurrency` of them are enqueued at a time, by default `defaultFanOut`. If one fails, the others
 * are cancelled.
 *
 * @category workflows
 */
export const executeAll = <T extends Any>(
  task: T,
  payloads: ReadonlyArray<PayloadIn<T>>,
  options: Omit<ExecuteOptions, "name"> & { readonly concurrency?: number } = {}
): Effect.Effect<
  Array<T["successSchema"]["Type"]>,
  T["errorSchema"]["Type"] | TaskError,
  WorkflowInstance | T["payloadSchema"]["EncodingServices"] | T["successSchema"]["DecodingServices"]
> => {
  const { concurrency = defaultFanOut, ...shared } = options
  return Effect.forEach(payloads, (payload) => taskStep.execute(task, payload, shared), { concurrency })
}

/** How many executions `executeAll` has enqueued at a time. @category constants */
export const defaultFanOut = 1_000

/** How much of an invalid id an error shows, in characters. */
const maxIdLength = 100

/**
 * A handle on an execution from its id, for instance in another process. Fails with `BrokerError`: `InvalidId` if the
 * id is not a UUID. Only `await` and `poll` can tell whether it is unknown or belongs to another task.
 *
 * @category enqueueing
 */
export const execution = <T extends Any>(
  task: T,
  id: Broker.ExecutionId
): Effect.Effect<Execution.Of<T>, BrokerError, Broker.Broker> =>
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

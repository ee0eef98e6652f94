/**
 * What a task is, whatever it is used for: its name, its Schemas, and its options with their defaults.
 *
 * `Task` is the face of this: apps define, enqueue and handle tasks there.
 */
import type * as Duration from "effect/Duration"
import type * as Pipeable from "effect/Pipeable"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { defaultPriority } from "./Broker.ts"
import * as definition from "./internal/definition.ts"
import * as Limits from "./Limits.ts"
import type * as Retry from "./Retry.ts"

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
 * A placement with its defaults filled in.
 *
 * @category models
 */
export interface ResolvedPlacement {
  readonly cpus: number
  /** In bytes; null: nothing is reserved. */
  readonly memory: number | null
  readonly resources: Readonly<Record<string, number>>
  readonly concurrency: number
  readonly maxHosts: number
  readonly thread: "worker" | "main"
  readonly pip: ReadonlyArray<string>
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
  readonly placement: ResolvedPlacement
  /** Undecoded: the policy takes the decoded error, whose type the definition knows. */
  readonly retry: Retry.Policy<unknown> | undefined
  readonly idempotencyKey: ((payload: unknown) => string) | undefined
}

/** Any task, whatever its payload, success and error: for functions that take tasks. @category models */
export interface Any extends Definition<string, Schema.Top, Schema.Top, ErrorSchema> {
  readonly runtime: "effect" | "python"
}

/** What a task's payload is made from. @category utility types */
export type PayloadIn<T extends Any> = T["payloadSchema"]["~type.make.in"]

const Proto = {
  [TypeId]: TypeId,
  pipe(this: unknown, ...operations: ReadonlyArray<(self: unknown) => unknown>) {
    return operations.reduce((self, operation) => operation(self), this)
  }
}

/** Makes a definition. Throws, naming the option, for what no definition can be. @internal */
export const make = (
  tag: string,
  options: Options<any, any, any>,
  own: { readonly runtime: "effect" | "python" } & Readonly<Record<string, unknown>>
) => {
  function TaskDefinition() {}
  Object.setPrototypeOf(TaskDefinition, Proto)
  const payload = options.payload ?? Schema.Void
  const { priority = defaultPriority, queue = Limits.defaultQueue, retry } = options
  const placement = resolvePlacement(options.placement ?? {}, own.runtime)
  definition.check({ name: tag, queue, priority, attempts: attemptsOf(retry), placement: options.placement ?? {} })
  definition.checkSlots(tag, placement)
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

/** The default of `concurrency`: a Python function that will not stop takes its process down. */
const defaultConcurrency = { effect: 10, python: 1 }

const resolvePlacement = (placement: Placement, runtime: "effect" | "python"): ResolvedPlacement => ({
  cpus: placement.cpus ?? 1,
  memory: placement.memory ?? null,
  resources: placement.resources ?? {},
  concurrency: placement.concurrency ?? defaultConcurrency[runtime],
  maxHosts: placement.maxHosts ?? Limits.maxHosts,
  thread: placement.thread ?? "worker",
  pip: placement.runtimeEnv?.pip ?? []
})

/**
 * How many attempts a policy allows; undefined: the limit's default. A bare Schedule says nothing of the number of attempts:
 * it ends by itself.
 *
 * @internal
 */
export const attemptsOf = (retry: Retry.Policy<unknown> | undefined): number | undefined => {
  if (retry === undefined) return undefined
  return Schedule.isSchedule(retry) ? Limits.maxAttemptsOfSchedule : retry.attempts
}

/**
 * Whether a value is a task definition.
 *
 * @category guards
 */
export const isTask = (u: unknown): u is Any => typeof u === "function" && TypeId in u

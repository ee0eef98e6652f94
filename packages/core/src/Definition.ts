/**
 * A task's name, Schemas, and options with their defaults.
 *
 * `Task` is the public side of this module: apps define, enqueue and handle tasks there.
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
 * A Schema for errors. It decodes and encodes without services, because retry policies run anywhere.
 *
 * @category models
 */
export interface ErrorSchema extends Schema.Top {
  /** It decodes without services. */
  readonly DecodingServices: never
  /** It encodes without services. */
  readonly EncodingServices: never
}

/**
 * What the hosts of a task on Ray get, and how tasks share them.
 *
 * @category models
 */
export interface Placement {
  /** `pool`: warm hosts, shared with other tasks of the same placement. Default `pool`, the only mode. */
  readonly mode?: "pool"
  /** CPUs of one host, which runs one handler thread for each whole CPU, and at least one. Default 1. */
  readonly cpus?: number
  /** Bytes of memory that Ray reserves for one host. Default: none are reserved. */
  readonly memory?: number
  /** Custom Ray resources of one host. Default: none. */
  readonly resources?: Readonly<Record<string, number>>
  /**
   * Attempts that run at once in one handler thread. Default 10. For Python, attempts at once in one process. Default
   * 1, because a plain function that does not stop takes down its process with everything else there.
   */
  readonly concurrency?: number
  /** The most hosts of this placement. Default: as many as the cluster has room for. */
  readonly maxHosts?: number
  /**
   * `main` runs handlers on the host's main thread, for handlers that never block: nothing can stop a busy loop there.
   * Default `worker`.
   */
  readonly thread?: "worker" | "main"
  /** Python packages that Ray's `runtime_env` installs for the hosts. Default: none. */
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
  /** The Schema of what the handler returns. Default `Schema.Void`. */
  readonly success?: S
  /** The Schema of the error that the handler declares. Default `Schema.Never`. */
  readonly error?: E
  /** Default `default`. If you change it, a worker must still serve the old queue for what is queued there. */
  readonly queue?: string
  /** Default: 3 attempts in all, with an exponential delay from 1 second, with jitter, capped at 5 minutes. */
  readonly retry?: Retry.Policy<E["Type"]>
  /** The limit of one attempt, from the start of its handler. Default 1 hour. */
  readonly timeout?: Duration.Input
  /**
   * A key that is already known returns the existing execution. Keys belong to the task and have at most
   * `Limits.maxKeyBytes`. Default: no key.
   */
  readonly idempotencyKey?: (payload: PayloadSchema<P>["Type"]) => string
  /** 0 to 9, 9 first. Default 5. */
  readonly priority?: number
  /** Never run again once an attempt may have started, not even as a retry. Default false. */
  readonly atMostOnce?: boolean
  /** What its hosts on Ray get. Runners in the worker's own process ignore it. */
  readonly placement?: Placement
}

/**
 * A Schema that decodes without services. Python tasks need such Schemas: the worker uses them to check a Python
 * function's input and return value.
 *
 * @category models
 */
export interface PlainSchema extends Schema.Top {
  /** It decodes without services. */
  readonly DecodingServices: never
}

/** The fields of a struct, all of which decode without services. @category models */
export interface PlainFields extends Schema.Struct.Fields {
  readonly [key: PropertyKey]: PlainSchema
}

/** The Schema of a payload that was given as a Schema or as the fields of a struct. @category utility types */
export type PayloadSchema<P extends Schema.Top | Schema.Struct.Fields> = P extends Schema.Struct.Fields
  ? Schema.Struct<P>
  : P extends Schema.Top ? P
  : never

/**
 * The common parts of every kind of task.
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
  /** The task's name. */
  readonly _tag: Tag
  /** The Schema of the payload. */
  readonly payloadSchema: Payload
  /** The Schema of what the handler returns. */
  readonly successSchema: Success
  /** The Schema of the declared error. */
  readonly errorSchema: Error
  /** The options, with defaults filled in. */
  readonly options: ResolvedOptions
}

/**
 * A placement with its defaults filled in.
 *
 * @category models
 */
export interface ResolvedPlacement {
  /** CPUs of one host. */
  readonly cpus: number
  /** Bytes of memory of one host; null if none are reserved. */
  readonly memory: number | null
  /** Custom Ray resources of one host. */
  readonly resources: Readonly<Record<string, number>>
  /** Attempts at once in one handler thread, or in one Python process. */
  readonly concurrency: number
  /** The most hosts. */
  readonly maxHosts: number
  /** Which thread of a Node host runs handlers. */
  readonly thread: "worker" | "main"
  /** Python packages that Ray installs for the hosts. */
  readonly pip: ReadonlyArray<string>
}

/**
 * Options with their defaults filled in.
 *
 * @category models
 */
export interface ResolvedOptions {
  /** The queue's name. */
  readonly queue: string
  /** 0 to 9, 9 first. */
  readonly priority: number
  /** The limit of one attempt. */
  readonly timeout: Duration.Duration
  /** Whether it must never run again once an attempt may have started. */
  readonly atMostOnce: boolean
  /** What its hosts on Ray get. */
  readonly placement: ResolvedPlacement
  /** The retry policy, if one is set. It takes the decoded error, whose type only the definition knows. */
  readonly retry: Retry.Policy<unknown> | undefined
  /** Returns the key of a decoded payload, if the task has keys. */
  readonly idempotencyKey: ((payload: unknown) => string) | undefined
}

/** Any task, whatever its payload, success and error: for functions that take tasks. @category models */
export interface Any extends Definition<string, Schema.Top, Schema.Top, ErrorSchema> {
  /** Where the handler is written: as an Effect, or in Python. */
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

/** Makes a definition. Throws an error that names the option if an option is invalid. @internal */
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

/** The defaults of `concurrency`. A Python function that does not stop takes down its process. */
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
 * How many attempts a policy allows; undefined: the default of `Limits`. A bare Schedule does not set a number of
 * attempts, because it ends by itself.
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

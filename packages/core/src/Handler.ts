/**
 * The Effect that does a task's work, and the way an attempt takes through it:
 * decode the payload, run the handler, encode how it ended.
 *
 * The same path serves every runner, in this process and in a host on Ray.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { ExecutionId } from "./Broker.ts"
import type { Any } from "./Definition.ts"
import { describe } from "./internal/describe.ts"
import { toText } from "./internal/json.ts"
import { isNotJson } from "./internal/plain.ts"
import { sanitise, utf8Bytes } from "./internal/text.ts"
import { continueTrace } from "./internal/trace.ts"
import * as Limits from "./Limits.ts"
import { Ended } from "./Outcome.ts"
import * as TaskError from "./TaskError.ts"

/**
 * What a handler may know of the attempt it serves. Ask for it by `yield* Handler.Attempt`.
 *
 * @category services
 */
export class Attempt extends Context.Service<Attempt, {
  readonly executionId: ExecutionId
  readonly task: string
  readonly queue: string
  /** From 1. */
  readonly attempt: number
}>()("@effect-ray/core/Handler/Attempt") {}

/**
 * The presence of a handler for the task with this tag, as a type.
 *
 * @category models
 */
export interface Handler<Tag extends string> {
  readonly _: unique symbol
  readonly _tag: Tag
}

/** The handlers that a set of tasks needs: one for each Effect task, none for Python. @category utility types */
export type HandlerOf<T extends Any> = T extends { readonly runtime: "effect" } ? Handler<T["_tag"]> : never

/**
 * One attempt as a handler's runtime receives it.
 *
 * @category models
 */
export interface Input {
  readonly executionId: ExecutionId
  readonly queue: string
  readonly attempt: number
  /** JSON text, as it is stored. */
  readonly payload: string
  readonly traceparent: Option.Option<string>
}

/**
 * The service behind `Handler<Tag>`: runs an attempt and answers how it ended. Never fails.
 *
 * @category models
 */
export interface Service {
  readonly task: Any
  readonly run: (input: Input) => Effect.Effect<Ended>
}

/**
 * Where a task's handler stands in a context.
 *
 * @category services
 */
export const key = <Tag extends string>(tag: Tag): Context.Key<Handler<Tag>, Service> =>
  Context.Service<Handler<Tag>, Service>(`@effect-ray/core/Handler/${tag}`)

/**
 * Tasks without a handler. The types of `Worker.make` refuse them; a cast, or JavaScript, lets them through.
 *
 * @category errors
 */
export class MissingHandlers extends Schema.TaggedError<MissingHandlers>("@effect-ray/core/Handler/MissingHandlers")(
  "MissingHandlers",
  { tasks: Schema.Array(Schema.String) }
) {
  override get message() {
    const lives = this.tasks.map((task) => `${task}Live`).join(", ")
    return `no handler for ${this.tasks.join(", ")}: give Worker.make({ handlers }) the layers of their toLayer, for `
      + `instance Layer.mergeAll(${lives})`
  }
}

/**
 * The handlers of a worker's Effect tasks by the tasks' names. Their layer is built here, once, and released with the scope; what
 * else it provides, a logger for instance, holds for every attempt.
 *
 * @category services
 */
export const build = (worker: {
  readonly tasks: ReadonlyArray<Any>
  readonly handlers: Layer.Layer<never, unknown> | undefined
}): Effect.Effect<ReadonlyMap<string, Service>, unknown, Scope.Scope> =>
  Effect.gen(function*() {
    const layer: Layer.Layer<never, unknown> = worker.handlers ?? Layer.empty
    const context = yield* Layer.build(layer)
    const around = merging(context)
    const found = new Map<string, Service>()
    const missing: Array<string> = []
    for (const { _tag, runtime } of worker.tasks) {
      const service = Context.getOrUndefined(context, key(_tag))
      if (service !== undefined) {
        found.set(_tag, { ...service, run: (input) => Effect.updateContext(service.run(input), around) })
      } else if (runtime === "effect") missing.push(_tag)
    }
    return missing.length === 0 ? found : yield* new MissingHandlers({ tasks: missing })
  })

/** Adds a context to others. That copies both, and attempts mostly begin from the same one. */
const merging = <R>(context: Context.Context<R>) => {
  let last: Context.Context<never> | undefined
  let merged: Context.Context<R>
  return (outer: Context.Context<never>): Context.Context<R> => {
    if (outer !== last) {
      merged = Context.merge(outer, context)
      last = outer
    }
    return merged
  }
}

/**
 * Builds the layer of `task.toLayer`. The handler's services are taken once, when the layer is built.
 *
 * @category layers
 */
export const layer = <R>(
  task: Any,
  handler: (payload: any) => Effect.Effect<unknown, unknown, R>
): Layer.Layer<Handler<string>, never, R> =>
  Layer.effect(
    key(task._tag),
    Effect.map(Effect.context<R>(), (context): Service => ({ task, run: makeRun(task, handler, context) }))
  )

/** What a handler without types may return, such as a promise, would end its fiber without its finalizers. */
const effectOf = <A, E, R>(made: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.isEffect(made)
    ? made
    : Effect.die(
      new TypeError(`the handler returned ${typeOf(made)} and not an Effect; wrap a promise by Effect.promise`)
    )

const typeOf = (u: unknown): string => u instanceof Promise ? "a promise" : u === null ? "null" : typeof u

const makeRun = <R>(
  task: Any,
  handler: (payload: any) => Effect.Effect<unknown, unknown, R>,
  context: Context.Context<R>
) => {
  // The services that the Schemas need are in the layer's context: `Task.toLayer` asks for them by type.
  type Codec<A> = (input: unknown) => Effect.Effect<A, Schema.SchemaError>
  const decodePayload = Schema.decodeUnknownEffect(Schema.toCodecJson(task.payloadSchema)) as Codec<unknown>
  const encodeSuccess = toText(task.successSchema)
  const encodeError = toText(task.errorSchema)
  const isDeclared = Schema.is(task.errorSchema)

  const encodeEnd = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<Ended> => {
    if (Exit.isSuccess(exit)) {
      return Effect.matchCauseEffect(encodeSuccess(exit.value), {
        onFailure: (cause) => Effect.succeed(undecodable("result", misfit(cause))),
        onSuccess: (text) => bounded(text, (value) => Ended.Succeeded({ value }))
      })
    }
    const failed = Cause.findErrorOption(exit.cause)
    if (Option.isNone(failed)) return Effect.succeed(Ended.Died({ reason: defect(exit.cause) }))
    return Effect.matchCauseEffect(encodeError(failed.value), {
      onFailure: (cause) =>
        Effect.succeed(
          // What the task did not declare is a defect, whatever its type said.
          isDeclared(failed.value)
            ? undecodable("error", `${misfit(cause)}, in ${TaskError.describe(defect(exit.cause))}`)
            : Ended.Died({ reason: defect(exit.cause) })
        ),
      onSuccess: (text) => bounded(text, (error) => Ended.Failed({ error }))
    })
  }

  const within = merging(context)

  const work = (json: unknown): Effect.Effect<Ended, never, R | Attempt> =>
    Effect.matchCauseEffect(decodePayload(json), {
      onFailure: (cause) => Effect.succeed(undecodable("payload", misfit(cause))),
      onSuccess: (payload) =>
        Effect.flatMap(
          Effect.exit(Effect.scoped(Effect.suspend(() => effectOf(handler(payload))))),
          encodeEnd
        )
    })

  return (input: Input): Effect.Effect<Ended> => {
    let json: unknown
    try {
      json = JSON.parse(input.payload)
    } catch (error) {
      return Effect.succeed(undecodable("payload", String(error)))
    }
    const attempt = { executionId: input.executionId, task: task._tag, queue: input.queue, attempt: input.attempt }
    const traced = continueTrace(work(json), `${task._tag}.run`, input.traceparent, {
      "effect_ray.execution": input.executionId,
      "effect_ray.attempt": input.attempt
    })
    return Effect.updateContext(traced, (outer: Context.Context<never>) => {
      const around = within(outer)
      return Context.add(around, Attempt, attempt).pipe(
        Context.add(References.CurrentLogAnnotations, annotations(around, attempt))
      )
    })
  }
}

/** Attempts run side by side, so every line that a handler logs says whose it is. */
const annotations = (around: Context.Context<never>, attempt: Attempt["Service"]) => ({
  ...Context.get(around, References.CurrentLogAnnotations),
  task: attempt.task,
  execution: attempt.executionId,
  attempt: attempt.attempt
})

/** An end by what the handler gave, a success or an error, unless that is too large. */
const bounded = (text: string, end: (text: string) => Ended): Effect.Effect<Ended> =>
  Effect.map(Limits.MaxResultBytes, (maxBytes) => {
    const bytes = utf8Bytes(text, maxBytes)
    return bytes <= maxBytes ? end(text) : Ended.Died({ reason: new TaskError.ResultTooLarge({ bytes, maxBytes }) })
  })

/**
 * Why something could not be decoded or encoded by a Schema, in words: whatever the Schema's own code threw.
 *
 * @category formatting
 */
export const misfit = (cause: Cause.Cause<unknown>): string =>
  misfitOf(Cause.squash(cause)) ?? TaskError.describe(defect(cause))

const misfitOf = (thrown: unknown): string | undefined => {
  try {
    const message = Schema.isSchemaError(thrown) || isNotJson(thrown) ? thrown.message : undefined
    return typeof message === "string" ? message : undefined
  } catch {
    // A proxy may refuse to be looked at, and a message to be read.
    return undefined
  }
}

const undecodable = (what: "payload" | "result" | "error", detail: string) =>
  Ended.Died({ reason: new TaskError.Undecodable({ what, detail: sanitise(detail, Limits.maxDetailLength) }) })

/**
 * How an attempt ended, by the exit of its `run`. `stopped`: it was asked to end, so an interruption is what was asked for,
 * whatever its finalizers died of meanwhile; the record has no place for that, so `log` is given a line about it. An interruption
 * that was not asked for is the handler's own.
 *
 * @category running
 */
export const endOf = (
  exit: Exit.Exit<Ended>,
  stopped: boolean,
  log: (line: Effect.Effect<void>) => void
): Ended => {
  if (Exit.isSuccess(exit)) return exit.value
  const { cause } = exit
  if (!stopped || !Cause.hasInterrupts(cause)) return Ended.Died({ reason: defect(cause) })
  if (!Cause.hasInterruptsOnly(cause)) {
    const beside = defect(cause)
    const line = Effect.logWarning("a handler was stopped as asked, and died of something else besides")
    log(Effect.annotateLogs(line, { error: TaskError.describe(beside), stack: beside.stack }))
  }
  return Ended.Interrupted({ confirmed: true })
}

/**
 * Describes what a handler died of, bounded and storable: what was thrown, its causes, and their stacks.
 *
 * @category formatting
 */
export const defect = (cause: Cause.Cause<unknown>): TaskError.Defect => {
  const described = describe(failuresOf(cause), Limits)
  const service = /^Service not found: (.+)$/s.exec(described.detail)?.[1]
  if (service === undefined) return new TaskError.Defect(described)
  const cure = `. Provide it to the handler's layer: Worker.make({ handlers: Layer.provide(…, ${service}'s layer) })`
  return new TaskError.Defect({
    name: described.name,
    detail: sanitise(described.detail + cure, Limits.maxDetailLength),
    stack: sanitise(described.stack.replace(described.detail, (detail) => detail + cure), Limits.maxStackLength)
  })
}

/** What failed, in the order in which `Cause.squash` would choose: errors, then defects. */
const failuresOf = (cause: Cause.Cause<unknown>) => {
  const failures = cause.reasons.filter((reason) => !Cause.isInterruptReason(reason)).map((reason) => ({
    thrown: Cause.isFailReason(reason) ? reason.error : reason.defect,
    located: (stack: string) => locate(reason, stack),
    isError: Cause.isFailReason(reason)
  }))
  if (failures.length === 0) return [{ thrown: new Error("the handler interrupted itself") }]
  return failures.sort((a, b) => Number(b.isError) - Number(a.isError))
}

/** The stack as Effect prints it, with the spans it happened in. Effect is not shown what was thrown: it would print all of it. */
const locate = (reason: Cause.Reason<unknown>, stack: string): string => {
  const error = new Error()
  error.stack = stack
  const die = Cause.makeDieReason(error).annotate(Cause.reasonAnnotations(reason))
  return Cause.prettyErrors(Cause.fromReasons([die]))[0]?.stack ?? stack
}

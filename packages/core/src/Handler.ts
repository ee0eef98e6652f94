/**
 * Runs handlers. An attempt decodes the payload, runs the handler and encodes how it ended.
 *
 * Every runner uses this path, in this process and in a host on Ray.
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
 * The attempt that a handler serves. Get it with `yield* Handler.Attempt`.
 *
 * @category services
 */
export class Attempt extends Context.Service<Attempt, {
  /** The id of the execution, a UUID. */
  readonly executionId: ExecutionId
  /** The name of the task. */
  readonly task: string
  /** The queue of the execution. */
  readonly queue: string
  /** The number of the attempt, from 1. */
  readonly attempt: number
}>()("@effect-ray/core/Handler/Attempt") {}

/**
 * Says at the type level that there is a handler for the task with this name.
 *
 * @category models
 */
export interface Handler<Tag extends string> {
  readonly _: unique symbol
  readonly _tag: Tag
}

/** The handlers that a set of tasks needs: one for each Effect task, none for Python tasks. @category utility types */
export type HandlerOf<T extends Any> = T extends { readonly runtime: "effect" } ? Handler<T["_tag"]> : never

/**
 * One attempt as a handler's runtime receives it.
 *
 * @category models
 */
export interface Input {
  /** The id of the execution, a UUID. */
  readonly executionId: ExecutionId
  /** The queue of the execution. */
  readonly queue: string
  /** The number of the attempt, from 1. */
  readonly attempt: number
  /** The payload's JSON text, as it is stored. */
  readonly payload: string
  /** The W3C trace context of the caller that enqueued the execution, if it had one. */
  readonly traceparent: Option.Option<string>
}

/**
 * The service behind `Handler<Tag>`.
 *
 * @category models
 */
export interface Service {
  /** The task that the handler is for. */
  readonly task: Any
  /** Runs an attempt and returns how it ended. Never fails; interrupting it stops the handler. */
  readonly run: (input: Input) => Effect.Effect<Ended>
}

/**
 * The key of a task's handler in a context.
 *
 * @category services
 */
export const key = <Tag extends string>(tag: Tag): Context.Key<Handler<Tag>, Service> =>
  Context.Service<Handler<Tag>, Service>(`@effect-ray/core/Handler/${tag}`)

/**
 * Some tasks have no handler. The types of `Worker.make` prevent this, but a cast or JavaScript can get around them.
 *
 * @category errors
 */
export class MissingHandlers extends Schema.TaggedError<MissingHandlers>("@effect-ray/core/Handler/MissingHandlers")(
  "MissingHandlers",
  { tasks: Schema.Array(Schema.String) }
) {
  override get message() {
    const lives = this.tasks.map((task) => `${task}Live`).join(", ")
    return `no handler for ${
      this.tasks.join(", ")
    }: pass the layers that toLayer returns to Worker.make({ handlers }), for `
      + `instance Layer.mergeAll(${lives})`
  }
}

/**
 * Builds the worker's layer of handlers, once, and returns the handlers by task name. The layer is released with the
 * scope. Other services that it provides, such as a logger, are there in every attempt.
 *
 * Fails with `MissingHandlers`, or with the layer's own error.
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

/**
 * Merges a context into others. A merge copies both, and most attempts start from the same context, so the last result
 * is kept.
 */
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
 * Builds the layer that `task.toLayer` returns. The services that the handler needs are taken once, when the layer is
 * built.
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

/**
 * Without type checks a handler may return something else, such as a promise. Running that would end the fiber without
 * its finalizers.
 */
const effectOf = <A, E, R>(made: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.isEffect(made)
    ? made
    : Effect.die(
      new TypeError(`the handler returned ${typeOf(made)} and not an Effect; wrap a promise in Effect.promise`)
    )

const typeOf = (u: unknown): string => u instanceof Promise ? "a promise" : u === null ? "null" : typeof u

const makeRun = <R>(
  task: Any,
  handler: (payload: any) => Effect.Effect<unknown, unknown, R>,
  context: Context.Context<R>
) => {
  // The layer's context has the services that the Schemas need: the type of `Task.toLayer` requires them.
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
          // An error that the task did not declare is a defect, even if the handler's type allowed it.
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

/** Attempts run concurrently, so each line that a handler logs says which attempt it belongs to. */
const annotations = (around: Context.Context<never>, attempt: Attempt["Service"]) => ({
  ...Context.get(around, References.CurrentLogAnnotations),
  task: attempt.task,
  execution: attempt.executionId,
  attempt: attempt.attempt
})

/** Ends the attempt with the handler's success or error, or with `ResultTooLarge` if its text is too long. */
const bounded = (text: string, end: (text: string) => Ended): Effect.Effect<Ended> =>
  Effect.map(Limits.MaxResultBytes, (maxBytes) => {
    const bytes = utf8Bytes(text, maxBytes)
    return bytes <= maxBytes ? end(text) : Ended.Died({ reason: new TaskError.ResultTooLarge({ bytes, maxBytes }) })
  })

/**
 * Describes why a Schema could not decode or encode a value, including when code in the Schema threw.
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
    // A proxy may throw on any access, and a message when it is read.
    return undefined
  }
}

const undecodable = (what: "payload" | "result" | "error", detail: string) =>
  Ended.Died({ reason: new TaskError.Undecodable({ what, detail: sanitise(detail, Limits.maxDetailLength) }) })

/**
 * Returns how an attempt ended, given the exit of its `run`.
 *
 * `stopped` says that the attempt was asked to stop. An interruption is then the requested one, even if finalizers died
 * as well; those errors have no place in the record, so they are passed to `log`. If it was not asked to stop, an
 * interruption was made by the handler itself and is a defect.
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
    const line = Effect.logWarning("a handler was stopped on request, but it also died of something else")
    log(Effect.annotateLogs(line, { error: TaskError.describe(beside), stack: beside.stack }))
  }
  return Ended.Interrupted({ confirmed: true })
}

/**
 * Describes what a handler died of: the thrown value, its causes and their stacks. The texts are bounded and can be
 * stored.
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

/** The failures, in the order in which `Cause.squash` chooses one: errors, then defects. */
const failuresOf = (cause: Cause.Cause<unknown>) => {
  const failures = cause.reasons.filter((reason) => !Cause.isInterruptReason(reason)).map((reason) => ({
    thrown: Cause.isFailReason(reason) ? reason.error : reason.defect,
    located: (stack: string) => locate(reason, stack),
    isError: Cause.isFailReason(reason)
  }))
  if (failures.length === 0) return [{ thrown: new Error("the handler interrupted itself") }]
  return failures.sort((a, b) => Number(b.isError) - Number(a.isError))
}

/**
 * Returns the stack as Effect prints it, with the spans in which the failure happened. Effect gets a new error with
 * that stack, not the thrown value, because it would print all of that.
 */
const locate = (reason: Cause.Reason<unknown>, stack: string): string => {
  const error = new Error()
  error.stack = stack
  const die = Cause.makeDieReason(error).annotate(Cause.reasonAnnotations(reason))
  return Cause.prettyErrors(Cause.fromReasons([die]))[0]?.stack ?? stack
}

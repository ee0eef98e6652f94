/**
 * Messages to a running workflow.
 *
 * A signal has a name and a payload. Any process sends one with `Run.signal`, also before the run has started; the body of
 * the workflow receives them in the order in which they were sent, each once. A signal that was sent is stored: it is
 * received even if every process ends in the meantime. Those that a run has not received when it ends stay with its
 * record.
 *
 * ```ts
 * class Approve extends Signal.make("Approve", { payload: { by: Schema.String } }) {}
 *
 * // In the body of a workflow:
 * const approval = yield* Signal.receiveWithin(Approve, "30 days")
 * ```
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { WorkflowInstance } from "effect/workflow/WorkflowEngine"
import { Current, type Current as Running } from "./internal/run/current.ts"
import { sourceOf } from "./internal/run/current.ts"

const TypeId = "~@effect-ray/core/Signal"

/** The definition of a signal. @category models */
export interface Signal<out Tag extends string, out P extends Schema.Top> {
  new(_: never): {}
  readonly [TypeId]: typeof TypeId
  /** The signal's name. A workflow receives by it. */
  readonly _tag: Tag
  /** The Schema of its payload. */
  readonly payloadSchema: P
}

/** Any signal. @category models */
export interface Any extends Signal<string, Schema.Top> {}

/** Where a signal may be received: in the body of a workflow. @category utility types */
export type Body<S extends Any> = WorkflowInstance | S["payloadSchema"]["DecodingServices"]

/**
 * Defines a signal. Extend it as a class. Without `payload` it has none.
 *
 * @category constructors
 */
export const make = <const Tag extends string, P extends Schema.Top | Schema.Struct.Fields = Schema.Void>(
  tag: Tag,
  options: { readonly payload?: P } = {}
): Signal<Tag, P extends Schema.Struct.Fields ? Schema.Struct<P> : P extends Schema.Top ? P : never> => {
  const payload = options.payload ?? Schema.Void
  function SignalDefinition() {}
  return Object.assign(SignalDefinition, {
    [TypeId]: TypeId,
    _tag: tag,
    payloadSchema: Schema.isSchema(payload) ? payload : Schema.Struct(payload as Schema.Struct.Fields)
  }) as never
}

/** The run whose body this is. */
const running = (what: string): Effect.Effect<Running> =>
  Effect.flatMap(Current, (current) =>
    current === undefined || current.step !== undefined
      ? Effect.die(new Error(`${what}: only the body of a workflow receives signals`))
      : Effect.succeed(current))

/**
 * Waits for the next signal, and returns its payload. Several that wait get one signal each, in the order in which they
 * began to wait. A stored payload that does not fit the Schema is logged and passed over.
 *
 * @category receiving
 */
export const receive = <S extends Any>(signal: S): Effect.Effect<S["payloadSchema"]["Type"], never, Body<S>> =>
  Effect.gen(function*() {
    const { resident } = yield* running(`Signal.receive(${signal._tag})`)
    while (true) {
      const payload = yield* decode(signal, yield* resident.mailbox.take(signal._tag))
      if (Option.isSome(payload)) return payload.value
    }
  })

/**
 * As `receive`, for at most this long: `None` if no signal came. The limit survives the process.
 *
 * @category receiving
 */
export const receiveWithin = <S extends Any>(
  signal: S,
  limit: Duration.Input
): Effect.Effect<Option.Option<S["payloadSchema"]["Type"]>, never, Body<S>> =>
  Effect.timeoutOption(receive(signal), limit)

/**
 * Returns the signals that were sent until now and have not been received, oldest first. It asks the store, so a body
 * that drains before it ends leaves none unread that was sent before.
 *
 * @category receiving
 */
export const drain = <S extends Any>(
  signal: S
): Effect.Effect<ReadonlyArray<S["payloadSchema"]["Type"]>, never, Body<S>> =>
  Effect.gen(function*() {
    const current = yield* running(`Signal.drain(${signal._tag})`)
    const { resident } = current
    const name = `drain:${signal._tag}/${resident.count(`drain:${signal._tag}`)}`
    // Its entry comes after all that was in the inbox, so a replay finds the same in the mailbox.
    const look = Effect.map(resident.readInbox, (is) => is ? "null" : undefined)
    const drained = yield* resident.once(name, sourceOf(current), resident.owned, look)
    if (drained === undefined) return yield* Effect.interrupt
    const payloads = yield* Effect.forEach(resident.mailbox.takeAll(signal._tag), (json) => decode(signal, json))
    return payloads.filter(Option.isSome).map(({ value }) => value)
  })

const codecs = new WeakMap<Schema.Top, (json: string) => Effect.Effect<unknown, Schema.SchemaError, never>>()

const decode = <S extends Any>(
  signal: S,
  json: string
): Effect.Effect<Option.Option<S["payloadSchema"]["Type"]>, never, S["payloadSchema"]["DecodingServices"]> => {
  let codec = codecs.get(signal.payloadSchema)
  if (codec === undefined) {
    codec = Schema.decodeEffect(Schema.fromJsonString(Schema.toCodecJson(signal.payloadSchema))) as never as (
      json: string
    ) => Effect.Effect<unknown, Schema.SchemaError, never>
    codecs.set(signal.payloadSchema, codec)
  }
  return Effect.catch(Effect.asSome(codec(json)), (error) =>
    Effect.as(
      Effect.annotateLogs(
        Effect.logWarning("a signal does not fit its Schema, and is passed over"),
        { signal: signal._tag, error: error.message }
      ),
      Option.none()
    ))
}

/** @internal */
export const encode = <S extends Any>(
  signal: S,
  payload: S["payloadSchema"]["~type.make.in"]
): Effect.Effect<string, Schema.SchemaError, S["payloadSchema"]["EncodingServices"]> =>
  Effect.flatMap(
    Effect.orDie(signal.payloadSchema.makeEffect(payload as never)),
    Schema.encodeEffect(Schema.fromJsonString(Schema.toCodecJson(signal.payloadSchema)))
  )

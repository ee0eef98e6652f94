/** Stores executions of a task: turns options, keys and payloads into rows. */
import * as Cause from "effect/Cause"
import * as SecureRandom from "effect/crypto/SecureRandom"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Option from "effect/Option"
import * as Broker from "../Broker.ts"
import { BrokerError, InvalidPayload } from "../BrokerError.ts"
import { type Any, attemptsOf } from "../Definition.ts"
import * as Envelope from "../Envelope.ts"
import * as Execution from "../Execution.ts"
import * as handler from "../Handler.ts"
import * as Limits from "../Limits.ts"
import { describe } from "../TaskError.ts"
import { canonical } from "./canonical.ts"
import { encodePayload } from "./payload.ts"
import { currentTraceparent } from "./trace.ts"

/**
 * The options of `Task.enqueue`.
 *
 * @category models
 */
export interface EnqueueOptions {
  /** Due after this long, by the broker's clock. Cannot be combined with `runAt`. Default: due now. */
  readonly delay?: Duration.Input
  /** Due at this time, by the broker's clock. Cannot be combined with `delay`. Default: due now. */
  readonly runAt?: DateTime.Utc
  /** 0 to 9, 9 first. Default: the task's. */
  readonly priority?: number
  /** Default: the task's. With `enqueueAll` it makes all payloads one execution, so they must be equal. */
  readonly idempotencyKey?: string
  /** How long the key is kept. Default: as long as the execution's record. */
  readonly keyTimeToLive?: Duration.Input
  /**
   * If the first attempt has not begun this long after the enqueue, the execution becomes `expired`. Default: no limit.
   */
  readonly startBy?: Duration.Input
  /** Texts by name, stored with the execution for searching. At most `Limits.maxTagsBytes` as JSON. Default: none. */
  readonly tags?: Readonly<Record<string, string>>
}

/** Stores an execution for each payload, all of them or none. */
export const store = Effect.fnUntraced(function*<T extends Any>(
  task: T,
  payloads: ReadonlyArray<unknown>,
  options: EnqueueOptions | undefined
): Effect.fn.Return<
  ReadonlyArray<Execution.Of<T>>,
  BrokerError,
  Broker.Broker | T["payloadSchema"]["EncodingServices"]
> {
  const broker = yield* Broker.Broker
  const enqueued = yield* broker.enqueue(yield* rowsOf(task, payloads, options))
  return enqueued.map(({ deduplicated, id }) => Execution.make(task, broker, id, deduplicated))
})

/** The executions to store, one for each payload. */
export const rowsOf = Effect.fnUntraced(function*<T extends Any>(
  task: T,
  payloads: ReadonlyArray<unknown>,
  options: EnqueueOptions | undefined
): Effect.fn.Return<ReadonlyArray<Broker.NewExecution>, BrokerError, T["payloadSchema"]["EncodingServices"]> {
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
  return rows
})

const invalid = (task: Any, detail: string): BrokerError =>
  new BrokerError({ reason: new InvalidPayload({ task: task._tag, detail }) })

/** The task's own key for a payload. The function is the app's code and may throw. */
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

/**
 * The checks that every broker does before it stores anything.
 *
 * `Task.enqueue` has already checked the payload against its Schema. This is the last
 * check: input that no store can take is refused here with a typed error, so that a bad
 * execution is not mistaken for a store that does not answer. The end of an attempt
 * cannot be refused, so it is converted into a form that can be stored.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Due, NewExecution } from "./Broker.ts"
import { BrokerError, InvalidPayload, PayloadTooLarge } from "./BrokerError.ts"
import * as Endings from "./Endings.ts"
import { canonical } from "./internal/canonical.ts"
import { sanitise, utf8Bytes } from "./internal/text.ts"
import {
  isPriority,
  maxCarriedBytes,
  maxEnqueueLength,
  maxEnvelopeBytes,
  maxKeyBytes,
  maxNameBytes,
  maxTagsBytes,
  maxTraceparentBytes
} from "./Limits.ts"
import type { Outcome } from "./Outcome.ts"
import { queue as runQueue } from "./RunStore.ts"

/**
 * Whether Postgres can store the text: it has no NUL character and no half of a surrogate pair.
 *
 * @category guards
 */
export const isStorable = (text: string): boolean => !text.includes("\u0000") && text.isWellFormed()

/**
 * Cuts a text for people to a length and removes what Postgres cannot store, so that it can never fail the record it
 * describes.
 *
 * @category converting
 */
export const printable: (text: string, maxLength: number) => string = sanitise

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * Whether the text is a UUID.
 *
 * @category guards
 */
export const isUuid = (text: string): boolean => uuid.test(text)

/**
 * The longest time that is stored, in milliseconds: a hundred thousand years. Postgres' timestamps and intervals end
 * there.
 *
 * @category constants
 */
export const maxMillis = 3.2e15

/** The earliest time that is stored: the beginning of the year 1. */
const minEpochMillis = Date.parse("0001-01-01T00:00:00Z")

/**
 * A duration in stored form, in milliseconds: never negative, never above `maxMillis`.
 *
 * @category converting
 */
export const storedMillis = (duration: Duration.Duration): number => {
  const millis = Duration.toMillis(duration)
  return millis > 0 ? Math.min(millis, maxMillis) : 0
}

/** The greatest age in the store, in milliseconds: a thousand years. */
const maxAgeMillis = 3.2e13

/** A duration as an age, in milliseconds, at most the greatest age in the store. */
export const ageMillis = (duration: Duration.Duration): number => Math.min(storedMillis(duration), maxAgeMillis)

/** The most bytes of a stored result. */
const maxResultBytes = maxCarriedBytes + maxEnvelopeBytes

/** The replacement for a result that cannot be stored; undefined if it can. */
const substitute = (result: string): string | undefined => {
  if (!isStorable(result)) return Endings.unstorable
  const bytes = utf8Bytes(result, maxResultBytes)
  return bytes > maxResultBytes ? Endings.tooLarge(bytes, maxResultBytes) : undefined
}

/**
 * The outcome in a form that can be stored. A result that cannot be stored fails its own execution and no other; an
 * error that cannot be stored is replaced.
 *
 * @category converting
 */
export const storable = (outcome: Outcome): Outcome => {
  if (!("result" in outcome)) return outcome
  const result = substitute(outcome.result)
  if (result === undefined) return outcome
  return outcome._tag === "Succeeded" ? { _tag: "Failed", result } : { ...outcome, result }
}

/**
 * The first fault in a batch of executions, if there is one.
 *
 * @category checks
 */
export const check = (executions: ReadonlyArray<NewExecution>): BrokerError | undefined => {
  const ids = new Set<string>()
  let length = 0
  for (const execution of executions) {
    let detail = fault(execution)
    if (detail === undefined) {
      const bytes = utf8Bytes(execution.payload, maxCarriedBytes)
      if (bytes > maxCarriedBytes) {
        return new BrokerError({
          reason: new PayloadTooLarge({ task: execution.task, bytes, maxBytes: maxCarriedBytes })
        })
      }
    }
    if (detail === undefined) {
      length += execution.payload.length
      if (length > maxEnqueueLength) detail = `one enqueue has at most ${maxEnqueueLength} characters of payload`
      if (ids.has(execution.id)) detail = `the id ${execution.id} occurs twice`
      ids.add(execution.id)
    }
    if (detail !== undefined) {
      // The error itself may be written to a log or a row.
      return new BrokerError({
        reason: new InvalidPayload({ task: printable(String(execution.task), maxNameBytes), detail })
      })
    }
  }
  return undefined
}

// Callers in JavaScript have no compiler.
const fault = (execution: NewExecution): string | undefined => {
  for (const [what, text] of texts(execution)) {
    if (typeof text !== "string") return `${what} is not a text`
    if (!isStorable(text)) return `${what} contains a NUL character or half a surrogate pair`
  }
  const { id, maxAttempts, priority, queue, task } = execution
  if (!isUuid(id)) return `the id "${printable(id, maxNameBytes)}" is not a UUID`
  if (task === "") return "the task's name is empty"
  if (queue === "") return "the queue's name is empty"
  if (queue === runQueue) return `the queue "${runQueue}" is for workflows`
  if (utf8Bytes(task, maxNameBytes) > maxNameBytes) return `the task's name is longer than ${maxNameBytes} bytes`
  if (utf8Bytes(queue, maxNameBytes) > maxNameBytes) return `the queue's name is longer than ${maxNameBytes} bytes`
  if (utf8Bytes(JSON.stringify(execution.tags), maxTagsBytes) > maxTagsBytes) {
    return `the tags have more than ${maxTagsBytes} bytes`
  }
  const traceparent = Option.getOrElse(execution.traceparent, () => "")
  if (utf8Bytes(traceparent, maxTraceparentBytes) > maxTraceparentBytes) {
    return `the trace context is longer than ${maxTraceparentBytes} bytes`
  }
  if (!isPriority(priority)) return `priority ${priority} is not a whole number from 0 to 9`
  if (!Number.isInteger(maxAttempts) || maxAttempts < 1 || maxAttempts > maxInteger) {
    return `maxAttempts ${maxAttempts} is not a whole number from 1 to ${maxInteger}`
  }
  if (!Duration.isDuration(execution.timeout) || !(Duration.toMillis(execution.timeout) > 0)) {
    return "the timeout is not a duration above zero"
  }
  if (!isTime(execution.due)) return "the due time is out of range"
  if (Option.isSome(execution.startBy) && !isTime(execution.startBy.value)) return "startBy is out of range"
  return Option.isNone(execution.idempotencyKey) ? undefined : faultOfKey(execution.idempotencyKey.value)
}

const faultOfKey = (
  { key, timeToLive }: Option.Option.Value<NewExecution["idempotencyKey"]>
): string | undefined => {
  if (utf8Bytes(key, maxKeyBytes) > maxKeyBytes) return `the idempotency key is longer than ${maxKeyBytes} bytes`
  if (Option.isSome(timeToLive) && !isSpan(timeToLive.value)) return "the key's time to live is out of range"
  return undefined
}

/**
 * The text by which the payload of an execution with a key is compared: its JSON, without white space, with object keys
 * sorted.
 *
 * @category converting
 */
export const identity = ({ idempotencyKey, payload }: NewExecution): string =>
  (Option.isSome(idempotencyKey) ? idempotencyKey.value.identity : undefined) ?? canonical(payload)

/** The largest value of a Postgres integer column. */
const maxInteger = 2 ** 31 - 1

const isSpan = (duration: Duration.Duration): boolean =>
  Duration.isDuration(duration) && Math.abs(Duration.toMillis(duration)) <= maxMillis

const isTime = (due: Due): boolean => {
  switch (due._tag) {
    case "Now":
      return true
    case "After":
      return isSpan(due.delay)
    case "At":
      return DateTime.isDateTime(due.at) && due.at.epochMilliseconds >= minEpochMillis
        && due.at.epochMilliseconds <= maxMillis
  }
}

const texts = (execution: NewExecution): ReadonlyArray<readonly [what: string, text: unknown]> => [
  ["the id", execution.id],
  ["the task's name", execution.task],
  ["the queue's name", execution.queue],
  ["the payload", execution.payload],
  ...Option.toArray(execution.idempotencyKey).map(({ key }) => ["the idempotency key", key] as const),
  ...Option.toArray(execution.traceparent).map((traceparent) => ["the trace context", traceparent] as const),
  ...Object.entries(execution.tags).flat().map((text) => ["a tag", text] as const)
]

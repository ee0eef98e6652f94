/**
 * The checks that every store of runs does before it stores anything.
 *
 * A store refuses what it cannot keep with a typed error, so that bad input is not mistaken for a store that does not
 * answer.
 */
import * as Option from "effect/Option"
import { BrokerError, InvalidPayload, PayloadTooLarge } from "./BrokerError.ts"
import { isStorable, isUuid, maxMillis, printable } from "./BrokerInput.ts"
import { utf8Bytes } from "./internal/text.ts"
import {
  maxCarriedBytes,
  maxEnqueueLength,
  maxEnvelopeBytes,
  maxKeyBytes,
  maxNameBytes,
  maxTraceparentBytes
} from "./Limits.ts"
import type { Commit, Message, NewRun } from "./RunStore.ts"

/**
 * The longest value of a message or a journal's entry, and the longest result, in bytes of UTF-8. The message that tells of
 * an end has the result as its value.
 *
 * @category constants
 */
export const maxValueBytes = maxCarriedBytes + maxEnvelopeBytes

/**
 * Why a run cannot be stored, if it cannot.
 *
 * @category checks
 */
export const checkRun = (run: NewRun): BrokerError | undefined => {
  const fault = faultOfId(run.id)
    ?? faultOf("the run's name", run.name, maxKeyBytes)
    ?? faultOf("the workflow's name", run.workflow, maxNameBytes)
    ?? (run.workflow === "" ? "the workflow's name is empty" : undefined)
    ?? faultOf("the trace context", Option.getOrElse(run.traceparent, () => ""), maxTraceparentBytes)
    ?? faultOf("the payload", run.payload)
  return fault === undefined ? checkSize(run.workflow, run.payload, maxCarriedBytes) : invalid(run.workflow, fault)
}

/**
 * Why messages cannot be sent, if they cannot.
 *
 * @category checks
 */
export const checkMessages = (messages: ReadonlyArray<Message>): BrokerError | undefined => {
  let length = 0
  for (const { key, run, value } of messages) {
    const fault = faultOfId(run)
      ?? faultOf("the message's key", key, maxKeyBytes)
      ?? faultOf("the message's value", value)
    const error = fault === undefined ? checkSize(key, value, maxValueBytes) : invalid(key, fault)
    if (error !== undefined) return error
    length += key.length + value.length
  }
  return length > maxEnqueueLength ? invalid("send", tooLong("what is sent at once")) : undefined
}

/**
 * Why a commit cannot be recorded, if it cannot.
 *
 * @category checks
 */
export const checkCommit = ({ children, entries, length: stored, next }: Commit): BrokerError | undefined => {
  let length = 0
  for (const { atMillis, key, message, value } of entries) {
    const fault = faultOf("the entry's key", key, maxKeyBytes)
      ?? faultOf("the entry's value", value)
      ?? (isTime(atMillis) ? undefined : `the entry's time is ${atMillis}`)
      ?? (message === undefined || Number.isSafeInteger(message) ? undefined : `there is no message ${message}`)
    const error = fault === undefined ? checkSize(key, value, maxValueBytes) : invalid(key, fault)
    if (error !== undefined) return error
    length += key.length + value.length
  }
  for (const { run } of children) {
    const error = checkRun(run)
    if (error !== undefined) return error
    length += run.payload.length
  }
  if (!isCount(stored) || !isCount(stored + entries.length)) {
    return invalid("commit", `no journal has ${stored} entries`)
  }
  if (length > maxEnqueueLength) return invalid("commit", tooLong("one commit"))
  if (next._tag === "Over") {
    const fault = faultOf("the result", next.result)
    return fault === undefined ? checkSize("the result", next.result, maxValueBytes) : invalid("commit", fault)
  }
  if (next._tag === "Waiting" && Option.isSome(next.wakeAtMillis) && Number.isNaN(next.wakeAtMillis.value)) {
    return invalid("commit", "the time at which it continues is not a number")
  }
  return undefined
}

const faultOfId = (id: string): string | undefined =>
  isUuid(id) ? undefined : `the id "${printable(String(id), maxNameBytes)}" is not a UUID`

// Callers in JavaScript have no compiler.
const faultOf = (what: string, text: string, maxBytes?: number): string | undefined => {
  if (typeof text !== "string") return `${what} is not a text`
  if (!isStorable(text)) return `${what} contains a NUL character or half a surrogate pair`
  return maxBytes !== undefined && utf8Bytes(text, maxBytes) > maxBytes
    ? `${what} is longer than ${maxBytes} bytes`
    : undefined
}

const checkSize = (what: string, text: string, maxBytes: number): BrokerError | undefined => {
  const bytes = utf8Bytes(text, maxBytes)
  return bytes > maxBytes
    ? new BrokerError({ reason: new PayloadTooLarge({ task: what, bytes, maxBytes }) })
    : undefined
}

/** The error itself may be written to a log or a row. */
const invalid = (what: string, detail: string): BrokerError =>
  new BrokerError({ reason: new InvalidPayload({ task: printable(String(what), maxNameBytes), detail }) })

const tooLong = (what: string): string => `${what} has more than ${maxEnqueueLength} characters`

const isTime = (millis: number): boolean => millis >= 0 && millis <= maxMillis

/** The largest number of entries: positions are integers in Postgres. */
const maxEntries = 2 ** 31 - 1

const isCount = (n: number): boolean => Number.isInteger(n) && n >= 0 && n <= maxEntries

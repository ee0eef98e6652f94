/** What Postgres cannot take is refused at the door, with nothing written. */
import type { Due, NewExecution } from "@effect-ray/core/Broker"
import { BrokerError, InvalidPayload } from "@effect-ray/core/BrokerError"
import * as BrokerInput from "@effect-ray/core/BrokerInput"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"

/** Keys are part of an index, which has room for about this much. */
const maxKeyLength = 600

/** A due time as two columns: a delay by the store's clock, or a moment; both in milliseconds. */
export const due = (due: Due): { readonly delay: number | null; readonly at: number | null } => {
  switch (due._tag) {
    case "Now":
      return { delay: 0, at: null }
    case "After":
      return { delay: Math.max(0, Duration.toMillis(due.delay)), at: null }
    case "At":
      return { delay: null, at: DateTime.toEpochMillis(due.at) }
  }
}

/** A hundred thousand years: beyond it Postgres' timestamps end, and so do intervals. */
export const maxMillis = 3.2e15

const isTime = (time: { readonly delay: number | null; readonly at: number | null }): boolean => {
  const millis = time.delay ?? time.at ?? 0
  return Number.isFinite(millis) && Math.abs(millis) <= maxMillis
}

const fault = (execution: NewExecution): string | undefined => {
  if (execution.maxAttempts > 2 ** 31 - 1) return "maxAttempts is more than Postgres can count"
  if (!isTime(due(execution.due))) return "the due time is out of range"
  if (Option.isSome(execution.startBy) && !isTime(due(execution.startBy.value))) return "startBy is out of range"
  if (Option.isNone(execution.idempotencyKey)) return undefined
  const { key, timeToLive } = execution.idempotencyKey.value
  if (key.length > maxKeyLength) return `the idempotency key is longer than ${maxKeyLength} characters`
  if (Option.isSome(timeToLive) && !isTime({ delay: Duration.toMillis(timeToLive.value), at: null })) {
    return "the key's time to live is out of range"
  }
  return undefined
}

/** The reason to refuse these executions, if there is one. */
export const refusalOf = (executions: ReadonlyArray<NewExecution>): BrokerError | undefined => {
  const refusal = BrokerInput.check(executions)
  if (refusal !== undefined) return refusal
  for (const execution of executions) {
    const detail = fault(execution)
    if (detail !== undefined) return new BrokerError({ reason: new InvalidPayload({ task: execution.task, detail }) })
  }
  return undefined
}

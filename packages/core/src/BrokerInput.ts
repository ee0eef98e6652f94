/**
 * What every broker checks before it stores anything.
 *
 * The payload itself was checked against its Schema by `Task.enqueue`. This is the
 * last door: what no store can take is refused here with a typed error, so that one
 * bad execution is told apart from a store that does not answer.
 */
import * as Option from "effect/Option"
import type { NewExecution } from "./Broker.ts"
import { BrokerError, InvalidPayload } from "./BrokerError.ts"
import { isPriority } from "./Limits.ts"

/**
 * Whether Postgres can keep the text: no NUL character and no half of a surrogate pair.
 *
 * @category guards
 */
export const isStorable = (text: string): boolean => !text.includes("\u0000") && text.isWellFormed()

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/**
 * The first thing that is wrong with a batch of executions, if anything is.
 *
 * @category checks
 */
export const check = (executions: ReadonlyArray<NewExecution>): BrokerError | undefined => {
  for (const execution of executions) {
    const detail = fault(execution)
    if (detail !== undefined) {
      // The error may end up in a log or a row itself.
      return new BrokerError({ reason: new InvalidPayload({ task: printable(execution.task), detail }) })
    }
  }
  return undefined
}

const printable = (text: string): string => text.replaceAll("\u0000", "\uFFFD").toWellFormed()

const fault = (execution: NewExecution): string | undefined => {
  if (!uuid.test(execution.id)) return `the id "${printable(execution.id)}" is not a UUID`
  if (execution.task === "") return "the task's name is empty"
  if (execution.queue === "") return "the queue's name is empty"
  if (!isPriority(execution.priority)) return `priority ${execution.priority} is not a whole number from 0 to 9`
  if (!Number.isInteger(execution.maxAttempts) || execution.maxAttempts < 1) {
    return `maxAttempts ${execution.maxAttempts} is not a whole number from 1`
  }
  for (const [what, text] of texts(execution)) {
    if (!isStorable(text)) return `${what} holds a NUL character or half a surrogate pair`
  }
  return undefined
}

const texts = (execution: NewExecution): ReadonlyArray<readonly [what: string, text: string]> => [
  ["the task's name", execution.task],
  ["the queue's name", execution.queue],
  ["the payload", execution.payload],
  ...Option.toArray(execution.idempotencyKey).map(({ key }) => ["the idempotency key", key] as const),
  ...Option.toArray(execution.traceparent).map((traceparent) => ["the trace context", traceparent] as const),
  ...Object.entries(execution.tags).flat().map((text) => ["a tag", text] as const)
]

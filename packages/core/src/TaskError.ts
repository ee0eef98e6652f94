/**
 * Why an execution did not end with the task's own success or error.
 *
 * A caller that awaits an execution gets either the error its task declared or one
 * `TaskError`, whose `reason` says what happened to the attempt or the execution.
 * Reasons are data: they pass through the row, the gateway and both languages.
 */
import * as Schema from "effect/Schema"
import { sanitise, sanitiseEnd } from "./internal/text.ts"
import { maxDetailLength, maxStackLength } from "./Limits.ts"

/**
 * The last counted attempt ran longer than the task's `timeout`.
 *
 * @category reasons
 */
export class TimedOut extends Schema.TaggedError<TimedOut>("@effect-ray/core/TimedOut")("TimedOut", {
  /** The limit that passed, in milliseconds. */
  timeoutMillis: Schema.Number
}) {}

/**
 * The execution was cancelled. `confirmed` is false if the handler is not known to have ended.
 *
 * @category reasons
 */
export class Cancelled extends Schema.TaggedError<Cancelled>("@effect-ray/core/Cancelled")("Cancelled", {
  confirmed: Schema.Boolean
}) {}

/**
 * The execution was not started before its `startBy`.
 *
 * @category reasons
 */
export class Expired extends Schema.TaggedError<Expired>("@effect-ray/core/Expired")("Expired", {}) {}

/**
 * The process that ran the attempt is gone: a host, a gateway or a worker died.
 *
 * @category reasons
 */
export class Lost extends Schema.TaggedError<Lost>("@effect-ray/core/Lost")("Lost", {
  detail: Schema.String
}) {}

/**
 * The execution is quarantined: `losses` of its attempts took down the process that ran them.
 *
 * @category reasons
 */
export class Quarantined extends Schema.TaggedError<Quarantined>("@effect-ray/core/Quarantined")("Quarantined", {
  losses: Schema.Int,
  detail: Schema.String
}) {}

/**
 * The attempt ran out of memory, or was killed in a way that suggests it.
 *
 * @category reasons
 */
export class OutOfMemory extends Schema.TaggedError<OutOfMemory>("@effect-ray/core/OutOfMemory")("OutOfMemory", {
  detail: Schema.String
}) {}

/**
 * The handler died with something its task did not declare.
 *
 * @category reasons
 */
export class Defect extends Schema.TaggedError<Defect>("@effect-ray/core/Defect")("Defect", {
  name: Schema.String,
  /** The message, with the error's fields and causes. */
  detail: Schema.String,
  /** Where it and its causes were thrown. Empty if unknown. */
  stack: Schema.String
}) {}

/**
 * A Python handler raised an exception that its task did not declare.
 *
 * @category reasons
 */
export class PythonError extends Schema.TaggedError<PythonError>("@effect-ray/core/PythonError")("PythonError", {
  type: Schema.String,
  /** The message, with its notes and causes. */
  detail: Schema.String,
  traceback: Schema.String
}) {}

/**
 * The encoded result is larger than the worker's limit.
 *
 * @category reasons
 */
export class ResultTooLarge extends Schema.TaggedError<ResultTooLarge>("@effect-ray/core/ResultTooLarge")(
  "ResultTooLarge",
  { bytes: Schema.Int, maxBytes: Schema.Int }
) {}

/**
 * A stored payload, result or error does not fit the task's Schema.
 *
 * @category reasons
 */
export class Undecodable extends Schema.TaggedError<Undecodable>("@effect-ray/core/Undecodable")("Undecodable", {
  what: Schema.Literals(["payload", "result", "error"]),
  detail: Schema.String
}) {}

/**
 * No node of the cluster can ever satisfy the task's placement.
 *
 * @category reasons
 */
export class Unschedulable extends Schema.TaggedError<Unschedulable>("@effect-ray/core/Unschedulable")(
  "Unschedulable",
  { detail: Schema.String }
) {}

/**
 * No host that could run the task started; `detail` has the last host's error. The module may throw, the handlers'
 * layer may fail, or a package may not install.
 *
 * @category reasons
 */
export class HostFailed extends Schema.TaggedError<HostFailed>("@effect-ray/core/HostFailed")("HostFailed", {
  detail: Schema.String
}) {}

/**
 * Every reason a `TaskError` can carry.
 *
 * @category schemas
 */
export const Reason = Schema.Union([
  TimedOut,
  Cancelled,
  Expired,
  Lost,
  Quarantined,
  OutOfMemory,
  Defect,
  PythonError,
  ResultTooLarge,
  Undecodable,
  Unschedulable,
  HostFailed
])

/** Why an execution did not end with its own success or error. @category models */
export type Reason = typeof Reason.Type

/**
 * One sentence about a reason, for logs and error messages.
 *
 * @category formatting
 */
export const describe = (reason: Reason): string => {
  switch (reason._tag) {
    case "TimedOut":
      return `the attempt ran longer than ${reason.timeoutMillis} ms`
    case "Cancelled":
      return reason.confirmed ? "cancelled" : "cancelled, but nobody confirmed that the attempt stopped"
    case "Expired":
      return "not started before its startBy"
    case "Quarantined":
      return `quarantined after ${reason.losses} lost attempts: ${reason.detail}`
    case "Lost":
      return `the attempt was lost: ${reason.detail}`
    case "OutOfMemory":
      return `out of memory: ${reason.detail}`
    case "Defect":
      return reason.detail === "" ? reason.name : `${reason.name}: ${reason.detail}`
    case "PythonError":
      return reason.detail === "" ? reason.type : `${reason.type}: ${reason.detail}`
    case "ResultTooLarge":
      return `the result has ${reason.bytes} bytes, the limit is ${reason.maxBytes} (EFFECT_RAY_MAX_RESULT_BYTES)`
    case "Undecodable":
      return `the ${reason.what} does not fit the task's Schema: ${reason.detail}`
    case "Unschedulable":
      return `no node can run it: ${reason.detail}`
    case "HostFailed":
      return `no host could be started: ${reason.detail}`
  }
}

/**
 * The reason with its texts bounded and storable, because the texts come from a host and may have any length.
 *
 * @category formatting
 */
export const bounded = (reason: Reason): Reason => {
  switch (reason._tag) {
    case "Defect":
      return new Defect({
        name: words(reason.name),
        detail: words(reason.detail),
        stack: sanitise(reason.stack, maxStackLength)
      })
    case "PythonError":
      return new PythonError({
        type: words(reason.type),
        detail: words(reason.detail),
        // The last lines say most.
        traceback: sanitiseEnd(reason.traceback, maxStackLength)
      })
    case "Lost":
      return new Lost({ detail: words(reason.detail) })
    case "Quarantined":
      return new Quarantined({ losses: reason.losses, detail: words(reason.detail) })
    case "OutOfMemory":
      return new OutOfMemory({ detail: words(reason.detail) })
    case "Undecodable":
      return new Undecodable({ what: reason.what, detail: words(reason.detail) })
    case "Unschedulable":
      return new Unschedulable({ detail: words(reason.detail) })
    default:
      return reason
  }
}

const words = (text: string): string => sanitise(text, maxDetailLength)

/** The value thrown where the attempt ran, as an error of this process, so that printing a cause shows it. */
const thrownAs = (reason: Reason): Error | undefined => {
  if (reason._tag === "Defect") return revive(reason.name, reason.detail, reason.stack)
  if (reason._tag === "PythonError") return revive(reason.type, reason.detail, reason.traceback)
  return undefined
}

const revive = (name: string, message: string, stack: string): Error =>
  Object.defineProperties(new Error(message), {
    name: { value: name, configurable: true, writable: true },
    stack: { value: stack, configurable: true, writable: true }
  })

/**
 * The failure of an execution that is not its task's declared error.
 *
 * Match on the reason with `Effect.catchReason("TaskError", "TimedOut", …)`. Its `cause` is what the handler died of,
 * with the host's stack or traceback.
 *
 * @category errors
 */
export class TaskError extends Schema.TaggedError<TaskError>("@effect-ray/core/TaskError")("TaskError", {
  task: Schema.String,
  executionId: Schema.String,
  reason: Reason
}) {
  override get message() {
    return `${this.task} (${this.executionId}): ${describe(this.reason)}`
  }
  override get cause() {
    return thrownAs(this.reason)
  }
}

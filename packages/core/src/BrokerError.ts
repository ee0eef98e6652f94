/**
 * Why the broker did not do what it was asked.
 *
 * One error with a reason. With `InvalidPayload`, `PayloadTooLarge`, `KeyConflict`, `OtherTransaction` and `InvalidId`,
 * the input was at fault and nothing was written.
 */
import * as Schema from "effect/Schema"
import { maxCarriedBytes } from "./Limits.ts"

/**
 * The payload, key, tag or option cannot be stored; `detail` says which and why.
 *
 * @category reasons
 */
export class InvalidPayload extends Schema.TaggedError<InvalidPayload>("@effect-ray/core/InvalidPayload")(
  "InvalidPayload",
  { task: Schema.String, detail: Schema.String }
) {}

/**
 * The encoded payload is larger than the limit. Store it elsewhere and pass a reference, or raise the limit.
 *
 * @category reasons
 */
export class PayloadTooLarge extends Schema.TaggedError<PayloadTooLarge>("@effect-ray/core/PayloadTooLarge")(
  "PayloadTooLarge",
  { task: Schema.String, bytes: Schema.Int, maxBytes: Schema.Int }
) {}

/**
 * The idempotency key already belongs to an execution with another payload.
 *
 * @category reasons
 */
export class KeyConflict extends Schema.TaggedError<KeyConflict>("@effect-ray/core/KeyConflict")("KeyConflict", {
  task: Schema.String,
  key: Schema.String,
  executionId: Schema.String
}) {}

/**
 * The calling fiber is in a transaction of a SqlClient other than the broker's, so the enqueue could not join it.
 *
 * @category reasons
 */
export class OtherTransaction extends Schema.TaggedError<OtherTransaction>("@effect-ray/core/OtherTransaction")(
  "OtherTransaction",
  { detail: Schema.String }
) {}

/**
 * The store did not answer, or it refused; `detail` has its message. Safe to retry, with one exception: an enqueue
 * without an idempotency key may have been stored, and would then be stored twice.
 *
 * @category reasons
 */
export class Unavailable extends Schema.TaggedError<Unavailable>("@effect-ray/core/Unavailable")("Unavailable", {
  operation: Schema.String,
  detail: Schema.String
}) {}

/**
 * The id is not a UUID, or belongs to an execution of another task: a wrong variable, or a truncated text.
 *
 * @category reasons
 */
export class InvalidId extends Schema.TaggedError<InvalidId>("@effect-ray/core/InvalidId")("InvalidId", {
  task: Schema.String,
  /** The given id, cut to a hundred characters. */
  id: Schema.String,
  detail: Schema.String
}) {}

/**
 * Stored data cannot be read, or this data cannot be stored, so retrying does not help: for instance a row written by
 * hand, or one that is larger than the client accepts. `detail` has the store's message.
 *
 * @category reasons
 */
export class BadData extends Schema.TaggedError<BadData>("@effect-ray/core/BadData")("BadData", {
  operation: Schema.String,
  detail: Schema.String
}) {}

/** Every reason a `BrokerError` can carry. @category schemas */
export const Reason = Schema.Union([
  InvalidPayload,
  PayloadTooLarge,
  KeyConflict,
  OtherTransaction,
  Unavailable,
  InvalidId,
  BadData
])

/** Why the broker did not do what it was asked. @category models */
export type Reason = typeof Reason.Type

const describe = (reason: Reason): string => {
  switch (reason._tag) {
    case "InvalidPayload":
      return `${reason.task}: ${reason.detail}`
    case "PayloadTooLarge":
      return `${reason.task}: the payload has ${reason.bytes} bytes, the limit is ${reason.maxBytes}; `
        + "store it elsewhere and enqueue a reference"
        + (reason.maxBytes < maxCarriedBytes ? ", or raise EFFECT_RAY_MAX_PAYLOAD_BYTES" : "")
    case "KeyConflict":
      return `${reason.task}: the idempotency key "${reason.key}" belongs to ${reason.executionId}, which has another payload`
    case "OtherTransaction":
      return reason.detail
    case "Unavailable":
    case "BadData":
      return `${reason.operation}: ${reason.detail}`
    case "InvalidId":
      return `${reason.task}: "${reason.id}" ${reason.detail}`
  }
}

/**
 * The failure of every broker operation.
 *
 * @category errors
 */
export class BrokerError extends Schema.TaggedError<BrokerError>("@effect-ray/core/BrokerError")("BrokerError", {
  reason: Reason
}) {
  override get message() {
    return describe(this.reason)
  }
}

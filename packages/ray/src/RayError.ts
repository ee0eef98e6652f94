/**
 * Failures between a worker and Ray that are not failures of an attempt.
 *
 * There is one error with a reason: match it with `Effect.catchReason("RayError", "Unreachable", …)`.
 */
import * as Schema from "effect/Schema"

/** Removes control characters and the secret from text that another program wrote. @category formatting */
export { cleanText } from "./internal/cleanText.ts"

/**
 * The address in `RAY_ADDRESS` cannot be used.
 *
 * @category reasons
 */
export class InvalidAddress extends Schema.TaggedError<InvalidAddress>("@effect-ray/ray/InvalidAddress")(
  "InvalidAddress",
  { address: Schema.String, detail: Schema.String, fix: Schema.String }
) {}

/**
 * No server answered at the address.
 *
 * @category reasons
 */
export class Unreachable extends Schema.TaggedError<Unreachable>("@effect-ray/ray/Unreachable")("Unreachable", {
  address: Schema.String,
  detail: Schema.String
}) {}

/**
 * The server at the address is not a Ray dashboard.
 *
 * @category reasons
 */
export class NotRay extends Schema.TaggedError<NotRay>("@effect-ray/ray/NotRay")("NotRay", {
  address: Schema.String,
  detail: Schema.String
}) {}

/**
 * The cluster needs a token, or another token.
 *
 * @category reasons
 */
export class Unauthorized extends Schema.TaggedError<Unauthorized>("@effect-ray/ray/Unauthorized")("Unauthorized", {
  address: Schema.String,
  /** Whether a token was sent. */
  token: Schema.Boolean
}) {}

/**
 * The cluster's Ray is too old.
 *
 * @category reasons
 */
export class UnsupportedVersion extends Schema.TaggedError<UnsupportedVersion>("@effect-ray/ray/UnsupportedVersion")(
  "UnsupportedVersion",
  { version: Schema.String, minimum: Schema.String }
) {}

/**
 * The submission id has already been used, by a job that is running or has ended.
 *
 * @category reasons
 */
export class AlreadyExists extends Schema.TaggedError<AlreadyExists>("@effect-ray/ray/AlreadyExists")("AlreadyExists", {
  submissionId: Schema.String
}) {}

/**
 * Ray returned an unexpected response.
 *
 * @category reasons
 */
export class Unexpected extends Schema.TaggedError<Unexpected>("@effect-ray/ray/Unexpected")("Unexpected", {
  request: Schema.String,
  status: Schema.Number,
  detail: Schema.String
}) {}

/**
 * Ray's response is too large. It was not read to the end.
 *
 * @category reasons
 */
export class TooLarge extends Schema.TaggedError<TooLarge>("@effect-ray/ray/TooLarge")("TooLarge", {
  address: Schema.String,
  request: Schema.String,
  /** The most bytes that a response to this request may have. */
  limit: Schema.Int
}) {}

/**
 * No local Ray could be started.
 *
 * @category reasons
 */
export class LocalRayFailed extends Schema.TaggedError<LocalRayFailed>("@effect-ray/ray/LocalRayFailed")(
  "LocalRayFailed",
  { detail: Schema.String, fix: Schema.String }
) {}

/**
 * The state folder may have been written by another user.
 *
 * @category reasons
 */
export class UnsafeFolder extends Schema.TaggedError<UnsafeFolder>("@effect-ray/ray/UnsafeFolder")("UnsafeFolder", {
  folder: Schema.String,
  detail: Schema.String
}) {}

/**
 * The gateway did not start, cannot be reached, or refused the worker.
 *
 * @category reasons
 */
export class GatewayFailed extends Schema.TaggedError<GatewayFailed>("@effect-ray/ray/GatewayFailed")("GatewayFailed", {
  submissionId: Schema.String,
  detail: Schema.String
}) {}

/**
 * The worker's packages could not be made.
 *
 * @category reasons
 */
export class BundleFailed extends Schema.TaggedError<BundleFailed>("@effect-ray/ray/BundleFailed")("BundleFailed", {
  module: Schema.String,
  detail: Schema.String
}) {}

/** Every reason a `RayError` can carry. @category schemas */
export const Reason = Schema.Union([
  InvalidAddress,
  Unreachable,
  NotRay,
  Unauthorized,
  UnsupportedVersion,
  AlreadyExists,
  Unexpected,
  TooLarge,
  LocalRayFailed,
  UnsafeFolder,
  GatewayFailed,
  BundleFailed
])

/** Why a request to Ray failed. @category models */
export type Reason = typeof Reason.Type

/**
 * Describes a reason, and what to do about it.
 *
 * @category formatting
 */
export const describe = (reason: Reason): string => {
  switch (reason._tag) {
    case "InvalidAddress":
      return `RAY_ADDRESS ${JSON.stringify(reason.address)} cannot be used: ${reason.detail}. ${reason.fix}`
    case "Unreachable":
      return `no Ray answers at ${reason.address}: ${reason.detail}; check that it runs, and RAY_ADDRESS if it is set`
    case "NotRay":
      return `what answers at ${reason.address} is not Ray: ${reason.detail}. `
        + "Set RAY_ADDRESS (or --ray-address) to the URL of the cluster's dashboard, for instance http://ray-head:8265"
    case "Unauthorized":
      return reason.token
        ? `${reason.address} refuses the token; check RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token`
        : `${reason.address} needs a token; set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH`
    case "UnsupportedVersion":
      return `the cluster runs Ray ${reason.version}; ${reason.minimum} or newer is required`
    case "AlreadyExists":
      return `the submission id ${reason.submissionId} is already used`
    case "Unexpected":
      return `${reason.request} was answered with ${reason.status}: ${reason.detail}`
    case "TooLarge":
      return `${reason.address} answers ${reason.request} with more than ${reason.limit} bytes, which is too large; check that `
        + "RAY_ADDRESS is the URL of a Ray dashboard"
    case "LocalRayFailed":
      return `no local Ray: ${reason.detail}. ${reason.fix}`
    case "UnsafeFolder":
      return `${reason.folder} cannot be used: ${reason.detail}. Remove it, or choose a folder that belongs to this user.`
    case "GatewayFailed":
      return `the gateway ${reason.submissionId} failed: ${reason.detail}`
    case "BundleFailed":
      return `${reason.module} cannot be bundled for Ray:\n${reason.detail}`
  }
}

/** The failure of every operation on a cluster. @category errors */
export class RayError extends Schema.TaggedError<RayError>("@effect-ray/ray/RayError")("RayError", {
  reason: Reason
}) {
  override get message() {
    return describe(this.reason)
  }
}

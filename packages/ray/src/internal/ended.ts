/** Converts how an attempt ended between core and the protocol. `docs/gateway-protocol.md`, Frames. */
import { Ended, Obstacle } from "@effect-ray/core/Outcome"
import * as TaskError from "@effect-ray/core/TaskError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Frame from "../Frame.ts"
import type { LostBody } from "../GatewayConnection.ts"

const ReasonJson = Schema.fromJsonString(Schema.toCodecJson(TaskError.Reason))
const encodeReason = Schema.encodeSync(ReasonJson)
const decodeReason = Schema.decodeUnknownResult(ReasonJson)

/** A RESULT. */
export interface ResultBody {
  /** Its kind, see `Frame.Kind`. */
  readonly kind: number
  /** The text of its body. */
  readonly text: string
}

/** Returns the RESULT for an end. Values and errors are passed on as text, without parsing them. */
export const toResult = (ended: Ended): ResultBody => {
  switch (ended._tag) {
    case "Succeeded":
      return { kind: Frame.Kind.success, text: ended.value }
    case "Failed":
      return { kind: Frame.Kind.failure, text: ended.error }
    case "Died":
    case "Lost":
      return { kind: Frame.Kind.died, text: encodeReason(ended.reason) }
    case "Interrupted":
      return { kind: ended.confirmed ? Frame.Kind.interrupted : Frame.Kind.unconfirmed, text: "" }
    case "NotStarted":
      return { kind: Frame.Kind.died, text: encodeReason(new TaskError.HostFailed({ detail: ended.obstacle.detail })) }
  }
}

/** Returns the end that a RESULT reports. */
export const ofResult = ({ kind, text }: ResultBody): Ended => {
  switch (kind) {
    case Frame.Kind.success:
      return Ended.Succeeded({ value: text })
    case Frame.Kind.failure:
      return Ended.Failed({ error: text })
    case Frame.Kind.interrupted:
      return Ended.Interrupted({ confirmed: true })
    case Frame.Kind.unconfirmed:
      return Ended.Interrupted({ confirmed: false })
    default: {
      const reason = decodeReason(text)
      return Ended.Died({
        reason: TaskError.bounded(
          Result.isSuccess(reason)
            ? reason.success
            : new TaskError.Defect({
              name: "UnknownReason",
              detail: `a host of another version sent: ${text}`,
              stack: ""
            })
        )
      })
    }
  }
}

const isKind = Schema.is(Obstacle.fields.kind)

/** Returns how an attempt ends whose call will have no result. */
export const ofLost = (lost: LostBody): Ended => {
  switch (lost.kind) {
    case "unschedulable":
      return Ended.Died({ reason: TaskError.bounded(new TaskError.Unschedulable({ detail: lost.detail })) })
    case "unplaced":
      // No host ever had it, so it goes back, even if it must never run twice.
      return Ended.NotStarted({ obstacle: { kind: isKind(lost.why) ? lost.why : "unreachable", detail: lost.detail } })
    case "oom":
      return lostBy(new TaskError.OutOfMemory({ detail: lost.detail }), lost)
    default:
      return lostBy(new TaskError.Lost({ detail: lost.detail }), lost)
  }
}

const lostBy = (reason: TaskError.Reason, { collateral }: LostBody): Ended =>
  Ended.Lost({ reason: TaskError.bounded(reason), collateral })

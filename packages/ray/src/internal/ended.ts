/** How an attempt ended, in the words of core and in those of the protocol. `docs/gateway-protocol.md`, Frames. */
import { Ended, Obstacle } from "@effect-ray/core/Outcome"
import * as TaskError from "@effect-ray/core/TaskError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Frame from "../Frame.ts"
import type { LostBody } from "../GatewayConnection.ts"

const ReasonJson = Schema.fromJsonString(Schema.toCodecJson(TaskError.Reason))
const encodeReason = Schema.encodeSync(ReasonJson)
const decodeReason = Schema.decodeUnknownResult(ReasonJson)

/** A RESULT: its kind, and the text of its body. */
export interface ResultBody {
  readonly kind: number
  readonly text: string
}

/** The RESULT that tells an end. Values and errors pass through as text, unread. */
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

/** The end that a RESULT tells. */
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
              detail: `a host of another version said: ${text}`,
              stack: ""
            })
        )
      })
    }
  }
}

const isKind = Schema.is(Obstacle.fields.kind)

/** The end of a call that will have no result. */
export const ofLost = (lost: LostBody): Ended => {
  switch (lost.kind) {
    case "unschedulable":
      return Ended.Died({ reason: TaskError.bounded(new TaskError.Unschedulable({ detail: lost.detail })) })
    case "unplaced":
      // No host ever had it: it goes back untouched, also what must never run twice.
      return Ended.NotStarted({ obstacle: { kind: isKind(lost.why) ? lost.why : "unreachable", detail: lost.detail } })
    case "oom":
      return lostBy(new TaskError.OutOfMemory({ detail: lost.detail }), lost)
    default:
      return lostBy(new TaskError.Lost({ detail: lost.detail }), lost)
  }
}

const lostBy = (reason: TaskError.Reason, { collateral }: LostBody): Ended =>
  Ended.Lost({ reason: TaskError.bounded(reason), collateral })

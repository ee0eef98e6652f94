/** What the gateway tells of a call, in the words of core. */
import { Ended } from "@effect-ray/core/Outcome"
import * as TaskError from "@effect-ray/core/TaskError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Frame from "../Frame.ts"
import type { LostBody } from "../GatewayConnection.ts"

const decodeReason = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.toCodecJson(TaskError.Reason)))

/** The end that a RESULT tells. Values and errors pass through as text, unread. */
export const ofResult = (kind: number, text: string): Ended => {
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

/** The end of a call that will have no result. */
export const ofLost = (lost: LostBody): Ended => {
  switch (lost.kind) {
    case "unschedulable":
      return Ended.Died({ reason: TaskError.bounded(new TaskError.Unschedulable({ detail: lost.detail })) })
    case "unplaced":
      // No host ever had it: it goes back untouched, also what must never run twice.
      return Ended.NotStarted({ obstacle: { kind: lost.why ?? "unreachable", detail: lost.detail } })
    case "oom":
      return lostBy(new TaskError.OutOfMemory({ detail: lost.detail }), lost)
    default:
      return lostBy(new TaskError.Lost({ detail: lost.detail }), lost)
  }
}

const lostBy = (reason: TaskError.Reason, { collateral }: LostBody): Ended =>
  Ended.Lost({ reason: TaskError.bounded(reason), collateral })

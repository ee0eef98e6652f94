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
        reason: Result.isSuccess(reason)
          ? reason.success
          : new TaskError.Defect({
            name: "UnknownReason",
            detail: `a host of another version said: ${text.slice(0, 500)}`
          })
      })
    }
  }
}

/** The end of a call that will have no result. */
export const ofLost = (lost: LostBody): Ended => {
  switch (lost.kind) {
    case "unschedulable":
      return Ended.Died({ reason: new TaskError.Unschedulable({ detail: lost.detail }) })
    case "unplaced":
      // No host ever had it: it goes back untouched, also what must never run twice.
      return Ended.NotStarted({ obstacle: { kind: lost.why ?? "unreachable", detail: lost.detail } })
    case "oom":
      return Ended.Lost({ reason: new TaskError.OutOfMemory({ detail: lost.detail }), collateral: lost.collateral })
    default:
      return Ended.Lost({ reason: new TaskError.Lost({ detail: lost.detail }), collateral: lost.collateral })
  }
}

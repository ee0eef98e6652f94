/**
 * The ends that a broker records by itself, when no worker reports one.
 *
 * Each is a stored envelope (see `Envelope`). All brokers write the same ones.
 */
import * as Envelope from "./Envelope.ts"
import { maxLosses } from "./Outcome.ts"
import * as TaskError from "./TaskError.ts"

/** Cancelled, and known to have stopped or never to have begun. @category constants */
export const cancelled = Envelope.taskError(new TaskError.Cancelled({ confirmed: true }))

/** Cancelled, and not known whether it stopped. @category constants */
export const unconfirmed = Envelope.taskError(new TaskError.Cancelled({ confirmed: false }))

/** Not started by its `startBy`. @category constants */
export const expired = Envelope.taskError(new TaskError.Expired())

const lapse = "the lease of its worker lapsed"

/** The lease of its worker lapsed. @category constants */
export const lapsed = Envelope.taskError(new TaskError.Lost({ detail: lapse }))

/** As `lapsed`, but too often to try again. @category constants */
export const quarantined = Envelope.taskError(new TaskError.Quarantined({ losses: maxLosses, detail: lapse }))

/** Its worker has left. For executions that may have run and must not run twice. @category constants */
export const left = Envelope.taskError(new TaskError.Lost({ detail: "its worker left without saying how it ended" }))

/** Replaces a result that cannot be stored. @category constants */
export const unstorable = Envelope.taskError(
  new TaskError.Undecodable({ what: "result", detail: "the result holds characters that cannot be stored" })
)

/** Replaces a result that is too large for a row. @category constructors */
export const tooLarge = (bytes: number, maxBytes: number): string =>
  Envelope.taskError(new TaskError.ResultTooLarge({ bytes, maxBytes }))

/** Replaces the end of an execution whose row cannot be read. @category constants */
export const unreadable = Envelope.taskError(
  new TaskError.Undecodable({
    what: "payload",
    detail: "its row holds values that cannot be read; a row like that is not written by enqueueing"
  })
)

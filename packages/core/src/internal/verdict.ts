/**
 * What a broker makes of a proposed outcome, of a lapsed lease, and of a supervisor that leaves: the arbitration of
 * `docs/lifecycle.md` as pure functions.
 *
 * An end stands, even if a cancellation was requested. An execution that would go back to its queue is cancelled
 * instead if a cancellation was requested. The memory broker calls these functions. The Postgres broker does the same
 * in SQL (`settle`, `retake`), and the contract suite compares every broker with them over all inputs.
 */
import type { AttemptRecord, State } from "../Broker.ts"
import { storable, storedMillis } from "../BrokerInput.ts"
import * as Endings from "../Endings.ts"
import { maxLosses, type Outcome } from "../Outcome.ts"

/** What is recorded about the attempt, and what becomes of its execution. */
export interface Verdict {
  /** Undefined if the attempt never began: nothing is recorded. */
  readonly attempt: AttemptRecord["outcome"] | undefined
  /** The envelope stored with the attempt, if any. */
  readonly attemptResult: string | undefined
  readonly confirmed: boolean
  /** Whether the attempt's number counts. */
  readonly counts: boolean
  /** Whether it adds to the losses. */
  readonly loses: boolean
  readonly next:
    | { readonly state: "queued"; readonly delayMillis: number | undefined }
    | { readonly state: Exclude<State, "queued" | "running" | "cancelling" | "waiting">; readonly result: string }
}

export interface Facts {
  readonly cancelling: boolean
  /** Counted attempts before this one. */
  readonly attempts: number
  readonly maxAttempts: number
}

/** Resolves a settlement. */
export const resolve = (facts: Facts, proposed: Outcome): Verdict => {
  const outcome = storable(proposed)
  switch (outcome._tag) {
    case "Succeeded":
      return ended("succeeded", "succeeded", outcome.result)
    case "Failed":
      return ended("failed", "failed", outcome.result)
    case "TimedOut":
      return { ...ended("timed_out", "failed", outcome.result), confirmed: outcome.confirmed }
    case "Cancelled":
      return cancelled(outcome.confirmed)
    case "Retry":
      if (facts.cancelling) return cancelled(outcome.confirmed)
      if (facts.attempts + 1 >= facts.maxAttempts) {
        return { ...ended("failed", "failed", outcome.result), confirmed: outcome.confirmed }
      }
      return {
        ...requeued("retry", storedMillis(outcome.delay)),
        counts: true,
        confirmed: outcome.confirmed,
        attemptResult: outcome.result
      }
    case "Released":
      return facts.cancelling ? cancelled(true) : requeued("released")
    case "Returned":
      return facts.cancelling ? cancelled(true) : requeued(undefined)
    case "Lost":
      if (outcome.final) {
        return { ...ended("lost", "lost", outcome.result), counts: false, loses: outcome.counted }
      }
      if (facts.cancelling) return cancelled(false)
      return { ...requeued("lost"), loses: outcome.counted, attemptResult: outcome.result }
  }
}

/** What becomes of an execution whose owner's lease lapsed. Its attempt is lost, and there is no proposal. */
export const lapsed = (facts: {
  readonly cancelling: boolean
  readonly atMostOnce: boolean
  /** Losses before this one. */
  readonly losses: number
}): Verdict => {
  if (facts.cancelling) return cancelled(false)
  // Its process may be alive and not know that its executions have other owners.
  const loss = { counts: false, loses: true, confirmed: false } as const
  if (facts.atMostOnce) return { ...ended("lost", "lost", Endings.lapsed), ...loss }
  if (facts.losses + 1 < maxLosses) return { ...requeued("lost"), ...loss, attemptResult: Endings.lapsed }
  return { ...ended("lost", "lost", Endings.quarantined), ...loss }
}

/**
 * What becomes of an at-most-once execution that its owner left behind. It may have run, so it never runs again. Other
 * executions are released.
 */
export const left = (facts: Pick<Facts, "cancelling">): Verdict => {
  if (facts.cancelling) return cancelled(true)
  return { ...ended("lost", "lost", Endings.left), counts: false, confirmed: false }
}

type End = Extract<Verdict["next"], { readonly result: string }>["state"]

const ended = (attempt: Verdict["attempt"], state: End, result: string): Verdict => ({
  attempt,
  attemptResult: result,
  confirmed: true,
  counts: true,
  loses: false,
  next: { state, result }
})

const cancelled = (confirmed: boolean): Verdict => ({
  attempt: "cancelled",
  attemptResult: undefined,
  confirmed,
  counts: false,
  loses: false,
  next: { state: "cancelled", result: confirmed ? Endings.cancelled : Endings.unconfirmed }
})

/** Back to the queue: after the delay, or without one into its old position. */
const requeued = (attempt: Verdict["attempt"], delayMillis?: number): Verdict => ({
  attempt,
  attemptResult: undefined,
  confirmed: true,
  counts: false,
  loses: false,
  next: { state: "queued", delayMillis }
})

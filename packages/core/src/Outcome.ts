/**
 * How an attempt ended, and what becomes of its execution.
 *
 * `propose` decides what a supervisor proposes. Cancel, success and retry may race, so the broker has the last word, under
 * the row's lock: a success beats a cancel, a retry or a release of a `cancelling` row becomes `cancelled`, and a retry
 * needs an attempt that is left. It also decides alone where no supervisor can propose: when a lease lapsed.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Envelope from "./Envelope.ts"
import * as TaskError from "./TaskError.ts"

/**
 * What a runner reports about an attempt that is over. `value` and `error` are JSON text, encoded by the task's Schemas.
 *
 * @category models
 */
export type Ended = Data.TaggedEnum<{
  /** The handler succeeded. */
  Succeeded: { readonly value: string }
  /** The handler failed with the error its task declared. */
  Failed: { readonly error: string }
  /** The handler or its value broke: a defect, a Python exception, an undecodable payload, a result over the limit. */
  Died: { readonly reason: TaskError.Reason }
  /**
   * The attempt was stopped on request. `confirmed`: the handler is known to have ended, its fiber with its finalizers, or what it
   * ran in. A promise that it waited for and that takes no notice of its signal is not seen.
   */
  Interrupted: { readonly confirmed: boolean }
  /** The process that ran the attempt is gone. `collateral`: through no doing of its own. */
  Lost: { readonly reason: TaskError.Reason; readonly collateral: boolean }
  /** No process could be had for the attempt, so its handler never began. */
  NotStarted: { readonly obstacle: Obstacle }
}>

/**
 * What keeps attempts from starting.
 *
 * - `failed`: a host was started and did not come up; `detail` has its last words.
 * - `unschedulable`: no node of the cluster can hold such a host.
 * - `starting`: a host is being prepared, for instance while packages are installed for it.
 * - `waiting`: the resources for a host are taken by others.
 * - `unreachable`: nothing can be asked for a host, for instance while there is no gateway.
 *
 * @category schemas
 */
export const Obstacle = Schema.Struct({
  kind: Schema.Literals(["failed", "unschedulable", "starting", "waiting", "unreachable"]),
  detail: Schema.String
})

/** What keeps attempts from starting. @category models */
export type Obstacle = typeof Obstacle.Type

/** Makes an `Ended`: `Ended.Succeeded({ value })`, and so on for each case. @category constructors */
export const Ended = Data.taggedEnum<Ended>()

/**
 * An `Ended` as JSON text: how a runner whose handlers run in another process carries it from there. `value` and `error` stay
 * the texts that they are.
 *
 * @category schemas
 */
export const EndedJson: Schema.Codec<Ended, string> = Schema.fromJsonString(Schema.toCodecJson(Schema.TaggedUnion({
  Succeeded: { value: Schema.String },
  Failed: { error: Schema.String },
  Died: { reason: TaskError.Reason },
  Interrupted: { confirmed: Schema.Boolean },
  Lost: { reason: TaskError.Reason, collateral: Schema.Boolean },
  NotStarted: { obstacle: Obstacle }
})))

/**
 * Why the supervisor stopped an attempt, when it did.
 *
 * @category models
 */
export type Stopped = "timeout" | "cancel" | "shutdown"

/**
 * How an attempt ended. `result` is a stored envelope, see `Envelope`.
 *
 * @category models
 */
export type Outcome = Data.TaggedEnum<{
  Succeeded: { readonly result: string }
  /** The attempt counts, and another one follows after `delay`. `confirmed`: it is known to have stopped. */
  Retry: { readonly result: string; readonly delay: Duration.Duration; readonly confirmed: boolean }
  /** The attempt counts and was the last: the execution is `failed`. */
  Failed: { readonly result: string }
  /** As `Failed`, by the task's timeout: the execution is `failed` with reason `TimedOut`. */
  TimedOut: { readonly result: string; readonly confirmed: boolean }
  Cancelled: { readonly confirmed: boolean }
  /** Handed back after it began, by no fault of the task: it does not count. */
  Released: {}
  /** Handed back before it began: no attempt is recorded. */
  Returned: {}
  /** The attempt's process vanished. `counted`: it adds to the losses; `final`: the execution is `lost`. */
  Lost: { readonly result: string; readonly counted: boolean; readonly final: boolean }
}>

/** Makes an `Outcome`: `Outcome.Retry({ result, delay })`, and so on for each case. @category constructors */
export const Outcome = Data.taggedEnum<Outcome>()

/**
 * How many attempts may take their workers down before the execution is quarantined.
 *
 * @category constants
 */
export const maxLosses = 3

/**
 * After this many losses an execution is a suspect: it is claimed and run alone, so that the next loss is its own.
 *
 * @category constants
 */
export const suspectLosses = 2

/**
 * The reason an execution fails with when no process could be had for it. None while waiting may still help: the others
 * are not the task's fault.
 *
 * @category deciding
 */
export const reasonOf = ({ detail, kind }: Obstacle): Option.Option<TaskError.Reason> => {
  if (kind === "failed") return Option.some(new TaskError.HostFailed({ detail }))
  if (kind === "unschedulable") return Option.some(new TaskError.Unschedulable({ detail }))
  return Option.none()
}

/** Reasons that no retry can cure. */
const isFinal = (reason: TaskError.Reason): boolean =>
  reason._tag === "Undecodable" || reason._tag === "Unschedulable" || reason._tag === "ResultTooLarge"

/**
 * What a supervisor proposes for an attempt that is over.
 *
 * @category deciding
 */
export const propose = (facts: {
  readonly ended: Ended
  /** Why the supervisor stopped the attempt, if it did. */
  readonly stopped: Stopped | undefined
  /** Losses recorded before this attempt. */
  readonly losses: number
  /** An at-most-once task is never run again once an attempt may have started. */
  readonly atMostOnce: boolean
  /** Whether the handler may have begun. */
  readonly started: boolean
  readonly timeoutMillis: number
  /** What the task's retry policy says, were this attempt to count as a failure. `None`: no attempt is left. */
  readonly next: Option.Option<Duration.Duration>
}): Outcome => {
  const { ended } = facts
  const next = facts.atMostOnce ? Option.none() : facts.next
  switch (ended._tag) {
    case "Succeeded":
      return Outcome.Succeeded({ result: Envelope.success(ended.value) })
    case "Failed":
      return retryOr(next, Envelope.failure(ended.error), true, failed)
    case "Died":
      return retryOr(
        isFinal(ended.reason) ? Option.none() : next,
        Envelope.taskError(ended.reason),
        true,
        failed
      )
    case "Lost":
      return proposeLost(facts, ended)
    case "Interrupted": {
      if (facts.stopped === "cancel") return Outcome.Cancelled({ confirmed: ended.confirmed })
      if (facts.stopped === "timeout") {
        const result = Envelope.taskError(new TaskError.TimedOut({ timeoutMillis: facts.timeoutMillis }))
        return retryOr(next, result, ended.confirmed, Outcome.TimedOut)
      }
      if (facts.atMostOnce && facts.started) {
        const reason = new TaskError.Lost({ detail: "its worker shut down while it ran, and it must not run twice" })
        return Outcome.Lost({ result: Envelope.taskError(reason), counted: false, final: true })
      }
      // A shutdown, or an interruption that was not asked for here: the task is not to blame.
      return facts.started ? Outcome.Released() : Outcome.Returned()
    }
    case "NotStarted":
      return facts.stopped === "cancel" ? Outcome.Cancelled({ confirmed: true }) : Outcome.Returned()
  }
}

const failed = ({ result }: { readonly result: string }): Outcome => Outcome.Failed({ result })

const retryOr = (
  next: Option.Option<Duration.Duration>,
  result: string,
  confirmed: boolean,
  last: (args: { readonly result: string; readonly confirmed: boolean }) => Outcome
): Outcome =>
  Option.match(next, {
    onNone: () => last({ result, confirmed }),
    onSome: (delay) => Outcome.Retry({ result, delay, confirmed })
  })

const proposeLost = (
  facts: { readonly losses: number; readonly atMostOnce: boolean },
  ended: Extract<Ended, { readonly _tag: "Lost" }>
): Outcome => {
  if (facts.atMostOnce) {
    return Outcome.Lost({ result: Envelope.taskError(ended.reason), counted: true, final: true })
  }
  if (ended.collateral) return Outcome.Lost({ result: Envelope.taskError(ended.reason), counted: false, final: false })
  const losses = facts.losses + 1
  if (losses < maxLosses) return Outcome.Lost({ result: Envelope.taskError(ended.reason), counted: true, final: false })
  const quarantined = new TaskError.Quarantined({ losses, detail: TaskError.describe(ended.reason) })
  return Outcome.Lost({ result: Envelope.taskError(quarantined), counted: true, final: true })
}

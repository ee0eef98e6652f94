/**
 * How an attempt ended, and what happens to its execution.
 *
 * `propose` decides what a supervisor proposes. Cancel, success and retry may race, so the broker makes the final
 * decision, under the row's lock: a success wins over a cancellation, a retry or release of a `cancelling` row becomes
 * `cancelled`, and a retry needs an attempt that is left. When a lease has lapsed no supervisor can propose, and the
 * broker decides alone.
 */
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Envelope from "./Envelope.ts"
import * as TaskError from "./TaskError.ts"

/**
 * What a runner reports about an attempt that has ended. `value` and `error` are JSON texts, encoded with the task's
 * Schemas.
 *
 * @category models
 */
export type Ended = Data.TaggedEnum<{
  /** The handler succeeded. */
  Succeeded: { readonly value: string }
  /** The handler failed with the error its task declared. */
  Failed: { readonly error: string }
  /**
   * The handler or its value was at fault: a defect, a Python exception, an undecodable payload, or a result over the
   * limit.
   */
  Died: { readonly reason: TaskError.Reason }
  /**
   * The attempt was stopped on request. `confirmed`: the handler is known to have ended, either its fiber with its
   * finalizers, or the thread or process that ran it. A promise that the handler waited for may continue, if it ignores
   * its signal.
   */
  Interrupted: { readonly confirmed: boolean }
  /** The process that ran the attempt is gone. `collateral`: the attempt did not cause that. */
  Lost: { readonly reason: TaskError.Reason; readonly collateral: boolean }
  /** There was no process for the attempt, so its handler never began. */
  NotStarted: { readonly obstacle: Obstacle }
}>

/**
 * What keeps attempts from starting. `detail` describes it for people.
 *
 * - `failed`: a host was started but did not come up; `detail` has the last lines that it wrote.
 * - `unschedulable`: no node of the cluster can hold such a host.
 * - `starting`: a host is being prepared, for instance while packages are installed for it.
 * - `waiting`: the resources for a host are taken by others.
 * - `unreachable`: there is nothing to request a host from, for instance while there is no gateway.
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
 * An `Ended` as JSON text, for runners whose handlers run in another process. `value` and `error` stay JSON texts
 * inside it.
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
 * Why the supervisor stopped an attempt.
 *
 * @category models
 */
export type Stopped = "timeout" | "cancel" | "shutdown"

/**
 * The outcome of an attempt. `result` is a stored envelope, see `Envelope`.
 *
 * @category models
 */
export type Outcome = Data.TaggedEnum<{
  /** The execution is `succeeded`. */
  Succeeded: { readonly result: string }
  /** The attempt counts, and another one follows after `delay`. `confirmed`: the handler is known to have ended. */
  Retry: { readonly result: string; readonly delay: Duration.Duration; readonly confirmed: boolean }
  /** The attempt counts and was the last one: the execution is `failed`. */
  Failed: { readonly result: string }
  /** Like `Failed`, because of the task's timeout: the execution is `failed` with the reason `TimedOut`. */
  TimedOut: { readonly result: string; readonly confirmed: boolean }
  /** The execution is `cancelled`. `confirmed`: the handler is known to have ended. */
  Cancelled: { readonly confirmed: boolean }
  /** Handed back after it began, through no fault of the task. The attempt does not count. */
  Released: {}
  /** Handed back before it began. No attempt is recorded. */
  Returned: {}
  /**
   * The process that ran the attempt is gone. `counted`: it adds to the execution's losses. `final`: the execution is
   * `lost`.
   */
  Lost: { readonly result: string; readonly counted: boolean; readonly final: boolean }
}>

/**
 * Makes an `Outcome`: `Outcome.Retry({ result, delay, confirmed })`, and so on for each case.
 *
 * @category constructors
 */
export const Outcome = Data.taggedEnum<Outcome>()

/**
 * How many counted losses an execution may have. With the last of them it is quarantined.
 *
 * @category constants
 */
export const maxLosses = 3

/**
 * How many losses make an execution a suspect. It is claimed and run alone, so that a third loss can only be its own.
 *
 * @category constants
 */
export const suspectLosses = 2

/**
 * Returns the reason with which an execution fails when there is no process for it. None for obstacles that waiting may
 * remove: they are not the task's fault.
 *
 * @category deciding
 */
export const reasonOf = ({ detail, kind }: Obstacle): Option.Option<TaskError.Reason> => {
  if (kind === "failed") return Option.some(new TaskError.HostFailed({ detail }))
  if (kind === "unschedulable") return Option.some(new TaskError.Unschedulable({ detail }))
  return Option.none()
}

/** Whether a retry would end with the same reason. */
const isFinal = (reason: TaskError.Reason): boolean =>
  reason._tag === "Undecodable" || reason._tag === "Unschedulable" || reason._tag === "ResultTooLarge"

/**
 * Decides what a supervisor proposes for an attempt that has ended.
 *
 * @category deciding
 */
export const propose = (facts: {
  /** What the runner reported. */
  readonly ended: Ended
  /** Why the supervisor stopped the attempt, if it did. */
  readonly stopped: Stopped | undefined
  /** How many losses were recorded before this attempt. */
  readonly losses: number
  /** Whether the task is `atMostOnce`: such an execution never runs again once an attempt may have started. */
  readonly atMostOnce: boolean
  /** Whether the handler may have begun. */
  readonly started: boolean
  /** The task's timeout, in milliseconds. */
  readonly timeoutMillis: number
  /** The delay that the task's retry policy returns if this attempt counts as a failure. `None`: no attempt is left. */
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
        const reason = new TaskError.Lost({ detail: "its worker shut down while it ran, and its task is atMostOnce" })
        return Outcome.Lost({ result: Envelope.taskError(reason), counted: false, final: true })
      }
      // A shutdown, or an interruption that this supervisor did not request: not the task's fault.
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

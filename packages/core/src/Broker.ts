/**
 * Durable storage of executions.
 *
 * A broker accepts executions, hands each one to a single supervisor at a time,
 * and records how the attempt ended. Delivery is at least once; a recorded outcome
 * is exactly once. A supervisor whose lease lapses loses its executions to the queue.
 *
 * All durable time is the broker's own: callers pass durations, never "now".
 * Two implementations keep one contract (`BrokerSuite`): `MemoryBroker` and `PgBroker`.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { BrokerError } from "./BrokerError.ts"
import type { Outcome } from "./Outcome.ts"

/** A UUIDv7 made by the client that enqueues. @category models */
export type ExecutionId = string

/** A UUID a supervisor chooses when it registers; never reused, never revived. @category models */
export type SupervisorId = string

/**
 * The token that grows with every change of hands of an execution. Whoever holds an older one changes nothing.
 *
 * @category models
 */
export type Fence = number

/**
 * The states of an execution. `docs/lifecycle.md` draws the transitions.
 *
 * @category models
 */
export type State =
  | "queued"
  | "running"
  | "cancelling"
  | "waiting"
  | "succeeded"
  | "failed"
  | "cancelled"
  | "expired"
  | "lost"

/** The highest priority is 9, the lowest 0. @category constants */
export const defaultPriority = 5

/**
 * When an execution becomes due, by the broker's clock.
 *
 * @category models
 */
export type Due =
  | { readonly _tag: "Now" }
  | { readonly _tag: "After"; readonly delay: Duration.Duration }
  | { readonly _tag: "At"; readonly at: DateTime.Utc }

/**
 * An execution to be stored. `payload` is JSON text, encoded by the task's Schema.
 *
 * @category models
 */
export interface NewExecution {
  readonly id: ExecutionId
  readonly task: string
  readonly queue: string
  /** 0 to 9, 9 first. */
  readonly priority: number
  readonly payload: string
  readonly format: number
  readonly due: Due
  /** Attempts that may fail or time out before the execution is `failed`. */
  readonly maxAttempts: number
  /** The limit of one attempt. The row's `deadline_at` is set from it when an attempt is claimed. */
  readonly timeout: Duration.Duration
  /** A queued execution that was not started by then becomes `expired`. */
  readonly startBy: Option.Option<Due>
  readonly idempotencyKey: Option.Option<{
    readonly key: string
    /** How long the key is kept; as long as the record is, when absent. */
    readonly timeToLive: Option.Option<Duration.Duration>
    /** What the payload is compared by. Default: `BrokerInput.identity` of its text, which knows no Map and no Set. */
    readonly identity?: string
  }>
  /** Never run again once an attempt may have started. */
  readonly atMostOnce: boolean
  readonly tags: { readonly [name: string]: string }
  /** W3C trace context of the enqueuing span. */
  readonly traceparent: Option.Option<string>
}

/**
 * The answer for one enqueued execution: its own id, or that of the execution that already holds its key.
 *
 * @category models
 */
export interface Enqueued {
  readonly id: ExecutionId
  readonly deduplicated: boolean
}

/**
 * What the broker knows of an execution.
 *
 * @category models
 */
export interface Record {
  readonly id: ExecutionId
  readonly task: string
  readonly queue: string
  readonly state: State
  readonly priority: number
  readonly payload: string
  readonly format: number
  /** Counted attempts so far. */
  readonly attempts: number
  readonly losses: number
  readonly fence: Fence
  readonly tags: { readonly [name: string]: string }
  readonly enqueuedAt: DateTime.Utc
  readonly runAt: DateTime.Utc
  readonly finishedAt: Option.Option<DateTime.Utc>
  /** Why it is not claimed, while it is queued: its queue or task is paused, or a supervisor that serves its lane says so. */
  readonly held: Option.Option<string>
  /** The stored envelope (see `Envelope`), once terminal. */
  readonly result: Option.Option<string>
}

/**
 * One attempt as history keeps it, keyed by (execution, fence).
 *
 * @category models
 */
export interface AttemptRecord {
  readonly execution: ExecutionId
  readonly fence: Fence
  /** The attempt's number, from 1. An attempt that did not count (released, lost) shares its number with the next. */
  readonly attempt: number
  readonly outcome: "succeeded" | "retry" | "failed" | "timed_out" | "cancelled" | "released" | "lost"
  readonly claimedAt: DateTime.Utc
  readonly endedAt: DateTime.Utc
  /** The stored envelope; none for released and cancelled attempts. */
  readonly result: Option.Option<string>
  /** Where it ran: cluster, host, node and process, as the runner tells it. */
  readonly runnerRef: Option.Option<string>
  /** False when an interruption could not be confirmed. */
  readonly confirmed: boolean
}

/**
 * A lane is what supervisors claim by: the pair of a queue and a task.
 *
 * @category models
 */
export interface Lane {
  readonly queue: string
  readonly task: string
}

/**
 * What can be paused: a queue with all that is in it, or a task in whatever queue.
 *
 * @category models
 */
export type Pausable = { readonly queue: string } | { readonly task: string }

/**
 * A lane to claim from.
 *
 * @category models
 */
export interface ClaimLane extends Lane {
  /** The most executions of each priority that are taken from it. Default: as many as the claim takes in all. */
  readonly limit?: number
}

/**
 * An execution in a supervisor's hands.
 *
 * @category models
 */
export interface Claimed {
  readonly id: ExecutionId
  readonly fence: Fence
  readonly task: string
  readonly queue: string
  /** 0 to 9, 9 first. */
  readonly priority: number
  readonly payload: string
  readonly format: number
  /** This attempt's number, from 1, should it count. */
  readonly attempt: number
  readonly losses: number
  readonly maxAttempts: number
  readonly timeoutMillis: number
  readonly atMostOnce: boolean
  readonly traceparent: Option.Option<string>
  /** When it was claimed, in milliseconds since 1970 by the broker's clock. */
  readonly claimedAtMillis: number
  /** Milliseconds between becoming due and this claim, by the broker's clock. */
  readonly waitedMillis: number
}

/**
 * How a claimed execution is to be recorded.
 *
 * @category models
 */
export interface Settlement {
  readonly id: ExecutionId
  readonly fence: Fence
  readonly outcome: Outcome
  readonly runnerRef: Option.Option<string>
}

/**
 * What became of a settlement. `LeaseLost`: the fence has moved on and nothing was changed.
 * A settlement repeated after a lost acknowledgement is `Settled` again. `Locked`: another transaction holds the execution,
 * and the settlement has to be repeated.
 *
 * @category models
 */
export type Settled = "Settled" | "LeaseLost" | "Locked"

/**
 * What one tick found. One statement renews the lease and returns all of this.
 *
 * @category models
 */
export interface Tick {
  /** False when this supervisor's lease has lapsed: it is never revived, and its executions have other owners. */
  readonly alive: boolean
  /** Those of its lanes that are paused: there is nothing to claim of them. */
  readonly paused: ReadonlyArray<Lane>
  /** Executions of this supervisor that somebody wants cancelled. */
  readonly cancelling: ReadonlyArray<ExecutionId>
  /** How long until the next execution of its lanes is due; zero when one is due now; none when there is none. */
  readonly nextDue: Option.Option<Duration.Duration>
  /** The names of those of the duties asked about whose turn may be taken. */
  readonly dueDuties: ReadonlyArray<string>
}

/**
 * Something that is done periodically, once for all supervisors, whichever of them gets its turn.
 *
 * @category models
 */
export interface Duty {
  /** Its name among all duties. */
  readonly name: string
  /** The shortest time between the beginnings of two turns. */
  readonly interval: Duration.Duration
  /** Does a bounded part of it. True when there is more to do at once. May run twice at the same time. */
  readonly perform: Effect.Effect<boolean, BrokerError>
}

/**
 * What wakes a supervisor before its next tick.
 *
 * @category models
 */
export type Wakeup =
  | { readonly _tag: "Enqueued"; readonly queue: string }
  | { readonly _tag: "Cancelling"; readonly id: ExecutionId }
  /** Something was paused or resumed: the next tick tells what. */
  | { readonly _tag: "Paused" }
  /** Notifications may have been missed: look at everything at once. */
  | { readonly _tag: "Resync" }

/** Stores executions, hands each to one supervisor at a time, and records how they ended. @category services */
export class Broker extends Context.Service<Broker, {
  /**
   * Stores executions, all of them or none. Joins the ambient transaction of the app's SqlClient, if there is one.
   * A key that is taken answers the existing execution, or fails with `KeyConflict` when the payload differs.
   * An id is used once: that of an execution which is not over is refused, and nobody looks for it among those that are.
   */
  readonly enqueue: (
    executions: ReadonlyArray<NewExecution>
  ) => Effect.Effect<ReadonlyArray<Enqueued>, BrokerError>

  /** What is known of an execution, wherever it is: queued, running or history. */
  readonly read: (id: ExecutionId) => Effect.Effect<Option.Option<Record>, BrokerError>

  /** Every attempt of an execution that has ended, oldest first, at most `maxAttemptsRead`. */
  readonly attempts: (id: ExecutionId) => Effect.Effect<ReadonlyArray<AttemptRecord>, BrokerError>

  /**
   * Waits until the execution is terminal and answers its record; `None` for an id that is not known. The log says so when it
   * has been due for `Limits.unservedPatience` and no live supervisor serves its lane.
   */
  readonly awaitTerminal: (id: ExecutionId) => Effect.Effect<Option.Option<Record>, BrokerError>

  /** `Cancelled`: it was queued. `Requested`: it is running and will be stopped. `TooLate`: it is over, or unknown. */
  readonly cancel: (id: ExecutionId) => Effect.Effect<"Cancelled" | "Requested" | "TooLate", BrokerError>

  /** Starts a supervisor's lease. */
  readonly register: (options: {
    readonly supervisor: SupervisorId
    /** Host name and process id, for people. */
    readonly label: string
    readonly lanes: ReadonlyArray<Lane>
    readonly lease: Duration.Duration
  }) => Effect.Effect<void, BrokerError>

  /** Ends a supervisor's lease. What it still owns goes back to its queue, uncounted. */
  readonly unregister: (supervisor: SupervisorId) => Effect.Effect<void, BrokerError>

  /**
   * Takes up to `limit` due executions of these lanes for the supervisor, each with a new fence: highest priority
   * first, then oldest. A suspect (see `Outcome.suspectLosses`) is handed out alone. A lapsed supervisor gets nothing.
   *
   * A claim need not outlive a crash of the store: one that was undone leaves its executions queued, and the next claim
   * of the same supervisor may answer them with the same fence. At-most-once executions are the exception.
   */
  readonly claim: (options: {
    readonly supervisor: SupervisorId
    readonly lanes: ReadonlyArray<ClaimLane>
    readonly limit: number
    /** Only executions that have been due for as long as this. Default: all that are due. */
    readonly waited?: Duration.Duration
  }) => Effect.Effect<ReadonlyArray<Claimed>, BrokerError>

  /**
   * What the supervisor holds, in any order. It asks after a claim whose answer was lost: the claim may have been
   * carried out, and nobody else would ever run what it took.
   */
  readonly owned: (supervisor: SupervisorId) => Effect.Effect<ReadonlyArray<Claimed>, BrokerError>

  /** Records how attempts ended, in one statement, answering each in the order given. */
  readonly settle: (
    supervisor: SupervisorId,
    settlements: ReadonlyArray<Settlement>
  ) => Effect.Effect<ReadonlyArray<Settled>, BrokerError>

  /** Renews the supervisor's lease, and tells what it has to know. */
  readonly tick: (options: {
    readonly supervisor: SupervisorId
    readonly lanes: ReadonlyArray<Lane>
    readonly lease: Duration.Duration
    /** Names of duties that the supervisor would do. */
    readonly duties: ReadonlyArray<string>
  }) => Effect.Effect<Tick, BrokerError>

  /** The duties that keep the store in order, for whichever supervisor gets their turn. */
  readonly duties: ReadonlyArray<Duty>

  /** Takes a duty's turn. False when another supervisor has taken it within the duty's interval. */
  readonly takeTurn: (duty: Duty) => Effect.Effect<boolean, BrokerError>

  /**
   * Pauses a queue or a task, by its name. What runs goes on; what waits, and what is enqueued, waits until `resume`. It
   * is in force at the next claim of a supervisor that has heard of it, which is at its next tick at the latest. Returns
   * false when it was paused already.
   */
  readonly pause: (what: Pausable) => Effect.Effect<boolean, BrokerError>

  /** Resumes a queue or a task. Returns false when it was not paused. */
  readonly resume: (what: Pausable) => Effect.Effect<boolean, BrokerError>

  /**
   * Says why this supervisor claims nothing of these lanes, for those who read their queued executions; `None`: it claims
   * them again. It is forgotten with the supervisor's lease. Returns those of the lanes that are given up: each supervisor
   * that served them during the last `patience`, this one included, was failing all that time.
   */
  readonly hold: (options: {
    readonly supervisor: SupervisorId
    readonly lanes: ReadonlyArray<Lane>
    readonly reason: Option.Option<string>
    /** No process can be had, and waiting alone does not change that. */
    readonly failing: boolean
    readonly patience: Duration.Duration
  }) => Effect.Effect<ReadonlyArray<Lane>, BrokerError>

  /**
   * Calls `hear` with wake-ups for these queues until the scope closes, each once what it tells of can be seen.
   * They may be lost or doubled; ticks are the backstop. A callback, because a claim follows at once: each pair of hands
   * in between would add to the latency of an idle queue.
   */
  readonly listen: (
    queues: ReadonlyArray<string>,
    hear: (wakeup: Wakeup) => void
  ) => Effect.Effect<void, BrokerError, Scope.Scope>
}>()("@effect-ray/core/Broker") {}

/**
 * Says that what somebody awaits is run by nobody, as things are.
 *
 * @category logging
 */
export const tellUnserved = ({ queue, task }: Lane): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning("an awaited execution is due, and no worker that runs serves its task in its queue"),
    { queue, task }
  )

/** The bound of `Broker.attempts`. @category constants */
export const maxAttemptsRead = 1_000

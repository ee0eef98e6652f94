/**
 * Durable storage of executions.
 *
 * A broker accepts executions, hands each one to a single supervisor at a time,
 * and records how each attempt ended. Delivery is at least once; an outcome is
 * recorded exactly once. When a supervisor's lease lapses, its executions go back to the queue.
 *
 * All durable time is the broker's own: callers pass durations, never "now".
 * `MemoryBroker` and `PgBroker` implement one contract, which `BrokerSuite` tests.
 */
import * as Context from "effect/Context"
import type * as DateTime from "effect/DateTime"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { BrokerError } from "./BrokerError.ts"
import type { Outcome } from "./Outcome.ts"

/** A UUIDv7, made by the client that enqueues. @category models */
export type ExecutionId = string

/** A UUID that a supervisor chooses when it registers. Never reused, never revived. @category models */
export type SupervisorId = string

/**
 * A number on an execution that grows each time it changes owner. A request with an older fence changes nothing.
 *
 * @category models
 */
export type Fence = number

/**
 * The states of an execution. `docs/lifecycle.md` defines the transitions.
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
  | "terminated"

/** The priority of tasks that do not set one. The range is 0 to 9, 9 first. @category constants */
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
 * An execution to store.
 *
 * @category models
 */
export interface NewExecution {
  /** Its id. Used once. */
  readonly id: ExecutionId
  /** The task's name, at most `Limits.maxNameBytes`. */
  readonly task: string
  /** The queue's name, at most `Limits.maxNameBytes`. */
  readonly queue: string
  /** 0 to 9, 9 first. */
  readonly priority: number
  /** JSON text, encoded by the task's Schema, at most `Limits.maxCarriedBytes`. */
  readonly payload: string
  /** The number of the payload's stored format, `Envelope.format`. */
  readonly format: number
  /** When it becomes due. */
  readonly due: Due
  /** How many attempts may fail or time out before the execution is `failed`. */
  readonly maxAttempts: number
  /** The limit of one attempt. A claim sets the row's `deadline_at` from it. */
  readonly timeout: Duration.Duration
  /** If the first attempt has not begun by then, the execution becomes `expired`. */
  readonly startBy: Option.Option<Due>
  /** The key, which belongs to the task; `None` if the execution has no key. */
  readonly idempotencyKey: Option.Option<{
    /** At most `Limits.maxKeyBytes`. */
    readonly key: string
    /** How long the key is kept. `None`: as long as the execution's record. */
    readonly timeToLive: Option.Option<Duration.Duration>
    /**
     * The text by which payloads are compared. Default: `BrokerInput.identity` of the payload, which treats Maps and
     * Sets as lists.
     */
    readonly identity?: string
  }>
  /** Whether it must never run again once an attempt may have started. */
  readonly atMostOnce: boolean
  /** Texts by name, at most `Limits.maxTagsBytes` as JSON. */
  readonly tags: { readonly [name: string]: string }
  /** The W3C trace context of the enqueuing span, if it has one. */
  readonly traceparent: Option.Option<string>
}

/**
 * What enqueueing returns for one execution.
 *
 * @category models
 */
export interface Enqueued {
  /** The new execution's id, or the id of the execution that already has the key. */
  readonly id: ExecutionId
  /** Whether the key was already known, so that nothing was stored. */
  readonly deduplicated: boolean
}

/**
 * What the broker knows about an execution.
 *
 * @category models
 */
export interface Record {
  /** Its id. */
  readonly id: ExecutionId
  /** The task's name. */
  readonly task: string
  /** The queue's name. */
  readonly queue: string
  /** Its current state. */
  readonly state: State
  /** 0 to 9, 9 first. */
  readonly priority: number
  /** The stored JSON text. */
  readonly payload: string
  /** The number of the stored format of payload and result. */
  readonly format: number
  /** How many attempts have counted so far. */
  readonly attempts: number
  /** How many attempts were lost with their process. */
  readonly losses: number
  /** The fence of its last claim; 0 before the first. */
  readonly fence: Fence
  /** Texts by name, as enqueued. */
  readonly tags: { readonly [name: string]: string }
  /** When it was enqueued, by the broker's clock. */
  readonly enqueuedAt: DateTime.Utc
  /** When it is due, or was due for its last attempt. */
  readonly runAt: DateTime.Utc
  /** When it ended; `None` until then. */
  readonly finishedAt: Option.Option<DateTime.Utc>
  /** Why a queued execution is not claimed: its queue or task is paused, or a supervisor holds its lane back. */
  readonly held: Option.Option<string>
  /** The stored envelope (see `Envelope`), once the execution has ended. */
  readonly result: Option.Option<string>
}

/**
 * One attempt in history, keyed by (execution, fence).
 *
 * @category models
 */
export interface AttemptRecord {
  /** The execution's id. */
  readonly execution: ExecutionId
  /** The fence it was claimed with. */
  readonly fence: Fence
  /** The attempt's number, from 1. The attempt after one that did not count (released, lost) has the same number. */
  readonly attempt: number
  /** How it ended. */
  readonly outcome: "succeeded" | "retry" | "failed" | "timed_out" | "cancelled" | "released" | "lost"
  /** When it was claimed, by the broker's clock. */
  readonly claimedAt: DateTime.Utc
  /** When its end was recorded, by the broker's clock. */
  readonly endedAt: DateTime.Utc
  /** The stored envelope; `None` for released and cancelled attempts. */
  readonly result: Option.Option<string>
  /** The place where it ran, as a text (`Runner.formatPlace`); `None` if it did not begin. */
  readonly place: Option.Option<string>
  /** False if it was interrupted and its handler is not known to have ended. */
  readonly confirmed: boolean
}

/**
 * What supervisors claim by: the pair of a queue and a task.
 *
 * @category models
 */
export interface Lane {
  /** The queue's name. */
  readonly queue: string
  /** The task's name. */
  readonly task: string
}

/**
 * What can be paused: a queue with everything in it, or a task in every queue.
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
  /** The most executions to take from it in each priority. Default: the claim's `limit`. */
  readonly limit?: number
}

/**
 * An execution that a supervisor has claimed.
 *
 * @category models
 */
export interface Claimed {
  /** Its id. */
  readonly id: ExecutionId
  /** The fence of this claim, which `settle` needs. */
  readonly fence: Fence
  /** The task's name. */
  readonly task: string
  /** The queue's name. */
  readonly queue: string
  /** 0 to 9, 9 first. */
  readonly priority: number
  /** The stored JSON text. */
  readonly payload: string
  /** The number of the payload's stored format. */
  readonly format: number
  /** This attempt's number, from 1, if it counts. */
  readonly attempt: number
  /** How many earlier attempts were lost with their process. */
  readonly losses: number
  /** How many attempts may fail or time out. */
  readonly maxAttempts: number
  /** The limit of one attempt, in milliseconds. */
  readonly timeoutMillis: number
  /** Whether it must never run again once an attempt may have started. */
  readonly atMostOnce: boolean
  /** The W3C trace context of the enqueuing span, if it has one. */
  readonly traceparent: Option.Option<string>
  /** When it was claimed, in milliseconds since 1970, by the broker's clock. */
  readonly claimedAtMillis: number
  /** How long it had been due when it was claimed, in milliseconds by the broker's clock. */
  readonly waitedMillis: number
}

/**
 * How to record the end of a claimed execution's attempt.
 *
 * @category models
 */
export interface Settlement {
  /** The execution's id. */
  readonly id: ExecutionId
  /** The fence it was claimed with. */
  readonly fence: Fence
  /** The outcome that the supervisor proposes. */
  readonly outcome: Outcome
  /** The place where the attempt ran, as a text; `None` if it did not begin. */
  readonly place: Option.Option<string>
}

/**
 * What became of a settlement. `LeaseLost`: the fence is older than the execution's, and nothing has changed. A
 * settlement that is repeated after a lost acknowledgement is `Settled` again. `Locked`: another transaction holds the
 * execution; repeat the settlement.
 *
 * @category models
 */
export type Settled = "Settled" | "LeaseLost" | "Locked"

/**
 * What a tick returns. One statement renews the lease and reads all of this.
 *
 * @category models
 */
export interface Tick {
  /** False if this supervisor's lease has lapsed. It is never revived, and its executions have other owners. */
  readonly alive: boolean
  /** The supervisor's paused lanes, from which nothing can be claimed. */
  readonly paused: ReadonlyArray<Lane>
  /** Executions of this supervisor that are to be cancelled. */
  readonly cancelling: ReadonlyArray<ExecutionId>
  /** How long until an execution of its lanes is due, or a waiting run continues; zero if one is due now; `None` if there is none. */
  readonly nextDue: Option.Option<Duration.Duration>
  /** Runs of this supervisor that have messages in their inboxes. */
  readonly unread: ReadonlyArray<ExecutionId>
  /** The duties, of those asked for, whose turn can be taken. */
  readonly dueDuties: ReadonlyArray<string>
}

/**
 * Periodic upkeep, done once for all supervisors by the one that takes its turn.
 *
 * @category models
 */
export interface Duty {
  /** Its name, unique among all duties. */
  readonly name: string
  /** The shortest time between the starts of two turns. */
  readonly interval: Duration.Duration
  /** Does a bounded part of the duty. Returns true if there is more to do at once. May run twice at the same time. */
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
  /** These runs, which this process may have in memory, have messages in their inboxes. */
  | { readonly _tag: "Woken"; readonly ids: ReadonlyArray<ExecutionId> }
  /** Something was paused or resumed. The next tick says what. */
  | { readonly _tag: "Paused" }
  /** Notifications may have been missed: look at everything. */
  | { readonly _tag: "Resync" }

/** Stores executions, hands each to one supervisor at a time, and records how they ended. @category services */
export class Broker extends Context.Service<Broker, {
  /**
   * Stores executions, all of them or none. Joins the transaction of the app's SqlClient, if the caller is in one.
   * If a key is already known, it returns the existing execution, or fails with `KeyConflict` if the payload differs.
   * An id is used once: the id of an execution that has not ended is refused. Ended executions are not searched.
   */
  readonly enqueue: (
    executions: ReadonlyArray<NewExecution>
  ) => Effect.Effect<ReadonlyArray<Enqueued>, BrokerError>

  /** Returns what is known about an execution, whether it is queued, running or in history. */
  readonly read: (id: ExecutionId) => Effect.Effect<Option.Option<Record>, BrokerError>

  /** Returns every attempt of an execution that has ended, oldest first, at most `maxAttemptsRead`. */
  readonly attempts: (id: ExecutionId) => Effect.Effect<ReadonlyArray<AttemptRecord>, BrokerError>

  /**
   * Waits until the execution has ended and returns its record; `None` for an unknown id. Logs a warning when the
   * execution has been due for `Limits.unservedPatience` and no live supervisor serves its lane.
   */
  readonly awaitTerminal: (id: ExecutionId) => Effect.Effect<Option.Option<Record>, BrokerError>

  /**
   * `Cancelled`: it was queued. `Requested`: it is running and will be stopped. `TooLate`: it has ended, or is unknown.
   */
  readonly cancel: (id: ExecutionId) => Effect.Effect<"Cancelled" | "Requested" | "TooLate", BrokerError>

  /** Starts a supervisor's lease. Registering again changes nothing. */
  readonly register: (options: {
    /** The id that the supervisor chose. */
    readonly supervisor: SupervisorId
    /** Host name and process id, for people. */
    readonly label: string
    /** The lanes it will claim from. */
    readonly lanes: ReadonlyArray<Lane>
    /** How long the lease lasts without a tick. */
    readonly lease: Duration.Duration
  }) => Effect.Effect<void, BrokerError>

  /** Ends a supervisor's lease. Executions that it still owns go back to their queue, uncounted. */
  readonly unregister: (supervisor: SupervisorId) => Effect.Effect<void, BrokerError>

  /**
   * Takes up to `limit` due executions of these lanes for the supervisor, each with a new fence: highest priority
   * first, then oldest. A suspect (see `Outcome.suspectLosses`) is claimed alone. A lapsed supervisor gets nothing.
   *
   * A crash of the store may undo a claim. Its executions are then queued again, and the supervisor's next claim may
   * return them with the same fence. Claims of at-most-once executions are never undone.
   */
  readonly claim: (options: {
    /** The supervisor, which must have registered. */
    readonly supervisor: SupervisorId
    /** The lanes to take from. */
    readonly lanes: ReadonlyArray<ClaimLane>
    /** The most executions to take in all. */
    readonly limit: number
    /** Take only executions that have been due for at least this long. Default: all that are due. */
    readonly waited?: Duration.Duration
  }) => Effect.Effect<ReadonlyArray<Claimed>, BrokerError>

  /**
   * Returns what the supervisor owns, in any order. A supervisor asks after a claim without a response: the claim may
   * have succeeded, and no other supervisor would ever run what it took.
   */
  readonly owned: (supervisor: SupervisorId) => Effect.Effect<ReadonlyArray<Claimed>, BrokerError>

  /** Records how attempts ended, in one statement. Returns one result for each, in the order given. */
  readonly settle: (
    supervisor: SupervisorId,
    settlements: ReadonlyArray<Settlement>
  ) => Effect.Effect<ReadonlyArray<Settled>, BrokerError>

  /** Renews the supervisor's lease and returns what it needs to know. */
  readonly tick: (options: {
    /** The supervisor, which must have registered. */
    readonly supervisor: SupervisorId
    /** The lanes to report on. */
    readonly lanes: ReadonlyArray<Lane>
    /** How long the lease lasts from now. */
    readonly lease: Duration.Duration
    /** The names of the duties that the supervisor can do. */
    readonly duties: ReadonlyArray<string>
  }) => Effect.Effect<Tick, BrokerError>

  /** The duties that keep the store in order. Any supervisor may take their turns. */
  readonly duties: ReadonlyArray<Duty>

  /** Takes a duty's turn. Returns false if another supervisor has taken it within the duty's interval. */
  readonly takeTurn: (duty: Duty) => Effect.Effect<boolean, BrokerError>

  /**
   * Pauses a queue or a task by name. Running attempts continue; queued and newly enqueued executions wait until
   * `resume`. It takes effect at a supervisor's next claim after it has learned of the pause, at its next tick at the
   * latest. Returns false if it was already paused.
   */
  readonly pause: (what: Pausable) => Effect.Effect<boolean, BrokerError>

  /** Resumes a queue or a task. Returns false if it was not paused. */
  readonly resume: (what: Pausable) => Effect.Effect<boolean, BrokerError>

  /**
   * Records why this supervisor does not claim from these lanes; their queued executions show it as `held`. The record
   * ends with the supervisor's lease. Returns the lanes that are given up: every supervisor that served them during the
   * last `patience`, including this one, was failing all that time.
   */
  readonly hold: (options: {
    /** The supervisor that holds the lanes back. */
    readonly supervisor: SupervisorId
    /** The lanes. */
    readonly lanes: ReadonlyArray<Lane>
    /** Why, for people. `None`: the supervisor claims from them again. */
    readonly reason: Option.Option<string>
    /** Whether no process can be had and waiting alone will not change that. */
    readonly failing: boolean
    /** How long every supervisor must have been failing before a lane is given up. */
    readonly patience: Duration.Duration
  }) => Effect.Effect<ReadonlyArray<Lane>, BrokerError>

  /**
   * Calls `hear` with wake-ups for these queues until the scope closes, each after the change is visible. Wake-ups may
   * be lost or repeated; ticks find the same things. It takes a callback because a claim follows at once, and every
   * step in between adds to the latency of an idle queue.
   */
  readonly listen: (
    queues: ReadonlyArray<string>,
    hear: (wakeup: Wakeup) => void
  ) => Effect.Effect<void, BrokerError, Scope.Scope>
}>()("@effect-ray/core/Broker") {}

/**
 * Logs that no running worker serves the lane of an awaited execution.
 *
 * @category logging
 */
export const tellUnserved = ({ queue, task }: Lane): Effect.Effect<void> =>
  Effect.annotateLogs(
    Effect.logWarning("an awaited execution is due, but no running worker serves its task in its queue"),
    { queue, task }
  )

/** The most attempts that `Broker.attempts` returns. @category constants */
export const maxAttemptsRead = 1_000

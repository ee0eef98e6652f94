/**
 * Durable storage of workflow runs.
 *
 * A run is an execution that can wait. It has the same row, lease, fence and history as the execution of a task, so
 * `Broker` registers its supervisor, renews the lease, and reads and awaits its end. This contract has what only runs
 * need: a journal, which the run's owner alone writes, and an inbox, to which all others append.
 *
 * The owner reads the inbox with a claim or a commit, and moves a message to the journal with a later commit. The order
 * of the journal is thus the owner's, and a replay needs no other order.
 *
 * `MemoryRunStore` and `PgRunStore` implement one contract, which `RunStoreSuite` tests.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import type { Fence, Lane, NewExecution, SupervisorId } from "./Broker.ts"
import type { BrokerError } from "./BrokerError.ts"
import type { JournalEntry } from "./internal/run/journal.ts"

export type { JournalEntry } from "./internal/run/journal.ts"

/**
 * The id of a run: a UUID. The id of its execution is the same.
 *
 * @category models
 */
export type RunId = string

/** The queue of all runs. Tasks cannot use it. @category constants */
export const queue = "workflows"

/** The keys of the messages that continue a run which waits for a person. @category constants */
export const releases: ReadonlyArray<string> = ["resume", "cancel", "cancel at once"]

/** The lane of a workflow's runs. @category models */
export const laneOf = (workflow: string): Lane => ({ queue, task: workflow })

/**
 * A run to store.
 *
 * @category models
 */
export interface NewRun {
  /** Its id. Storing a run whose id is known does nothing. */
  readonly id: RunId
  /** The id by which the program knows it: the execution id of Effect's engine. At most `Limits.maxKeyBytes`. */
  readonly name: string
  /** The workflow's name. */
  readonly workflow: string
  /** JSON text, encoded by the workflow's Schema; at most `Limits.maxCarriedBytes`. */
  readonly payload: string
  /** The W3C trace context of the caller's span, if it has one. */
  readonly traceparent: Option.Option<string>
  /** How long after its start it is interrupted, over all its links. */
  readonly timeout: Option.Option<Duration.Duration>
}

/**
 * What became of a start. `Owned`: it is stored, running, and owned by the caller's supervisor. `Stored`: it is stored
 * and queued. `Exists`: its id is known, and nothing has changed.
 *
 * @category models
 */
export type Started =
  | { readonly _tag: "Owned"; readonly fence: Fence; readonly nowMillis: number }
  | { readonly _tag: "Stored" }
  | { readonly _tag: "Exists" }

/**
 * A message to a run: a signal, the end of a child, a request to cancel.
 *
 * @category models
 */
export interface Message {
  /** The run. It need not exist yet: the message waits for it. */
  readonly run: RunId
  /** What the message is, for instance `deferred:approval`. At most `Limits.maxKeyBytes`. */
  readonly key: string
  /** JSON text. */
  readonly value: string
}

/**
 * A message in a run's inbox.
 *
 * @category models
 */
export interface Unread {
  /** Its id, unique in the store. Later messages have greater ids. */
  readonly id: number
  /** What the message is. */
  readonly key: string
  /** JSON text. */
  readonly value: string
  /** When it was sent, in milliseconds since 1970, by the store's clock. */
  readonly atMillis: number
}

/**
 * A run that a supervisor has claimed.
 *
 * @category models
 */
export interface Activation {
  /** Its id. */
  readonly id: RunId
  /** The id by which the program knows it. */
  readonly name: string
  /** The workflow's name. */
  readonly workflow: string
  /** The stored JSON text. */
  readonly payload: string
  /** The number of the payload's stored format. */
  readonly format: number
  /** The fence of this claim, which `commit` needs. */
  readonly fence: Fence
  /** How many entries its journal has. */
  readonly length: number
  /** The messages in its inbox, oldest first: as many as one response carries, and one at least if there are any. */
  readonly unread: ReadonlyArray<Unread>
  /** Which link of its chain this is, from 1: how often it has continued as new, and once more. */
  readonly link: number
  /** When this link began, in milliseconds since 1970, by the store's clock. */
  readonly startedAtMillis: number
  /** When it is interrupted, in milliseconds since 1970, by the store's clock. */
  readonly expiresAtMillis: Option.Option<number>
  /** When it was claimed, in milliseconds since 1970, by the store's clock. */
  readonly nowMillis: number
  /** The W3C trace context of its caller's span, if it has one. */
  readonly traceparent: Option.Option<string>
}

/**
 * An entry to append to a journal. If it is a message, it leaves the inbox.
 *
 * @category models
 */
export interface NewEntry extends JournalEntry {
  /** The id of the message. */
  readonly message: number | undefined
}

/**
 * A run that another one starts, or joins if its id is known.
 *
 * @category models
 */
export interface Child {
  /** The child. */
  readonly run: NewRun
  /** If false, its parent gets a message `end:ID` with the child's result when the child ends, or now if it has ended. */
  readonly detached: boolean
}

/**
 * What the run does next.
 *
 * @category models
 */
export type Next =
  | { readonly _tag: "Running" }
  | {
    readonly _tag: "Waiting"
    /** When it continues even without a message, in milliseconds since 1970 by the store's clock. */
    readonly wakeAtMillis: Option.Option<number>
    /** Why it waits for a person: it continues only with a message whose key is one of `releases`. */
    readonly held: Option.Option<string>
  }
  /** The run goes on as a new link, with another payload and a journal that begins with these entries. */
  | { readonly _tag: "Continued"; readonly payload: string; readonly carried: ReadonlyArray<JournalEntry> }
  | {
    readonly _tag: "Over"
    readonly state: "succeeded" | "failed" | "cancelled"
    /** JSON text. */
    readonly result: string
  }

/**
 * A step in the life of a claimed run. All of it is recorded, or nothing.
 *
 * @category models
 */
export interface Commit {
  /** The run. */
  readonly run: RunId
  /** The fence it was claimed with. */
  readonly fence: Fence
  /** The link of its chain that it was claimed with. */
  readonly link: number
  /** How many entries its journal has without `entries`. */
  readonly length: number
  /** Entries to append. */
  readonly entries: ReadonlyArray<NewEntry>
  /** Child runs to store. */
  readonly children: ReadonlyArray<Child>
  /** Executions of tasks to enqueue. This run gets a message `end:ID` with the result of each, when it ends. */
  readonly tasks: ReadonlyArray<NewExecution>
  /** Messages to send to other runs. */
  readonly messages: ReadonlyArray<Message>
  /** What the run does next. */
  readonly next: Next
}

/**
 * What became of a commit. `Lost`: the fence is older than the run's, and nothing has changed. A commit that is
 * repeated after a lost acknowledgement is done again without effect.
 *
 * A run with messages in its inbox that the commit does not move does not wait: it is `running` still. What is unread
 * when a run is over stays with its record.
 *
 * @category models
 */
export type Committed =
  | { readonly _tag: "Lost" }
  | {
    readonly _tag: "Done"
    readonly state: "running" | "waiting" | "over"
    /** The messages in its inbox, oldest first; none if the run is over. */
    readonly unread: ReadonlyArray<Unread>
  }

/**
 * A run and its journal, whether it is over or not.
 *
 * @category models
 */
export interface Told {
  /** Its id. */
  readonly id: RunId
  /** The id by which the program knows it. */
  readonly name: string
  /** The workflow's name. */
  readonly workflow: string
  /** The stored JSON text. */
  readonly payload: string
  /** The number of the payload's stored format. */
  readonly format: number
  /** Which link of its chain this is, from 1. */
  readonly link: number
  /** When this link began, in milliseconds since 1970, by the store's clock. */
  readonly startedAtMillis: number
  /** Its journal. */
  readonly entries: ReadonlyArray<JournalEntry>
}

/** Stores runs, hands each to one supervisor at a time, and records what they do. @category services */
export class RunStore extends Context.Service<RunStore, {
  /** Whether the caller is in a transaction of the app. What it starts and sends is part of that transaction. */
  readonly isInTransaction: Effect.Effect<boolean>

  /**
   * Stores a run if its id is not known, and sends these messages to it in any case. With an `owner` it is owned by that supervisor at once; not in a transaction,
   * where nothing can be owned.
   */
  readonly start: (
    run: NewRun,
    options: {
      readonly owner: Option.Option<SupervisorId>
      readonly messages: ReadonlyArray<Omit<Message, "run">>
    }
  ) => Effect.Effect<Started, BrokerError>

  /**
   * Takes up to `limit` runs of these workflows for the supervisor, each with a new fence: those that are queued, and
   * those that wait and whose time has come. A lapsed supervisor gets nothing.
   *
   * With `ids`, it takes exactly these, whether their time has come or not, unless another supervisor owns them, they
   * are held, or they are over.
   */
  readonly claim: (options: {
    /** The supervisor, which must have registered. */
    readonly supervisor: SupervisorId
    /** The names of the workflows. */
    readonly workflows: ReadonlyArray<string>
    /** The most runs to take. */
    readonly limit: number
    /** Only these runs. Default: all. */
    readonly ids?: ReadonlyArray<RunId>
  }) => Effect.Effect<ReadonlyArray<Activation>, BrokerError>

  /**
   * Returns what the supervisor owns, as claims do. A supervisor asks after a claim or a start without a response: it may
   * have succeeded, and no other supervisor would ever run what it took.
   */
  readonly owned: (supervisor: SupervisorId) => Effect.Effect<ReadonlyArray<Activation>, BrokerError>

  /** Returns the entries of an open run's journal from position `after`, at most `maxLoaded`. */
  readonly load: (run: RunId, after: number) => Effect.Effect<ReadonlyArray<JournalEntry>, BrokerError>

  /** Returns a run and its journal; `None` for an unknown id. */
  readonly tell: (run: RunId) => Effect.Effect<Option.Option<Told>, BrokerError>

  /** Records what a run did. The only write of its owner. */
  readonly commit: (supervisor: SupervisorId, commit: Commit) => Effect.Effect<Committed, BrokerError>

  /**
   * Ends a run at once, whatever it does: nothing of its code runs any more. Returns false if it is over, or unknown.
   */
  readonly terminate: (run: RunId, result: string) => Effect.Effect<boolean, BrokerError>

  /**
   * Appends messages to inboxes, and wakes their runs. Joins the transaction of the app's SqlClient, if the caller is in
   * one. Messages to a run that is over are dropped.
   */
  readonly send: (messages: ReadonlyArray<Message>) => Effect.Effect<void, BrokerError>
}>()("@effect-ray/core/RunStore") {}

/** The most entries that `RunStore.load` returns at once. @category constants */
export const maxLoaded = 10_000

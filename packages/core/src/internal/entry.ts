/** An execution that a shift has in hand. */
import type * as Fiber from "effect/Fiber"
import type { Span } from "effect/Tracer"
import type * as Broker from "../Broker.ts"
import type * as Definition from "../Definition.ts"
import { type Ended, type Stopped, suspectLosses } from "../Outcome.ts"
import type { Place } from "../Runner.ts"
import type * as Shares from "./shares.ts"

/** What a shift has in hand for one pool. */
export type Share = Shares.Share<Entry>

/** Times are in milliseconds of the process's clock. */
export interface Entry {
  /** The execution as it was claimed. */
  readonly claimed: Broker.Claimed
  /** The execution's task. */
  readonly task: Definition.Any
  /** The share of the pool in which it runs. */
  readonly share: Share
  /** When it was claimed. */
  readonly claimedAtMillis: number
  /** Entries start in this order, as far as their pools allow. */
  readonly order: number
  /** Whether it waits for a slot, runs, or has ended and is being settled. */
  phase: "waiting" | "running" | "settling"
  /** The fiber that runs the attempt, once it has started. */
  fiber: Fiber.Fiber<Ended> | undefined
  /** Where the handler runs, once the runner has reported it. */
  place: Place | undefined
  /** The attempt's span, once it has started and if there is a tracer. */
  span: Span | undefined
  /**
   * When the attempt times out. Undefined until the runner reports that the handler has begun: the wait for a host does
   * not count towards the timeout.
   */
  deadlineMillis: number | undefined
  /** Why the supervisor stopped the attempt, if it did. */
  stopped: Stopped | undefined
  /** When a stop without a response is recorded as not confirmed. */
  stopDeadlineMillis: number | undefined
}

/** How many entries this process has made. */
let made = 0

export const make = (
  given: Pick<Entry, "claimed" | "task" | "share" | "claimedAtMillis">
): Entry => ({
  ...given,
  order: made++,
  phase: "waiting",
  fiber: undefined,
  place: undefined,
  span: undefined,
  deadlineMillis: undefined,
  stopped: undefined,
  stopDeadlineMillis: undefined
})

/** Whether the execution is a suspect: its next loss must be its own. */
export const isSuspect = ({ claimed }: Entry): boolean => claimed.losses >= suspectLosses

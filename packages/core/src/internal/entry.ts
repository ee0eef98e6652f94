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
  readonly claimed: Broker.Claimed
  readonly task: Definition.Any
  readonly share: Share
  readonly claimedAtMillis: number
  /** Entries start in this order, as far as their pools allow. */
  readonly order: number
  phase: "waiting" | "running" | "settling"
  fiber: Fiber.Fiber<Ended> | undefined
  place: Place | undefined
  span: Span | undefined
  /**
   * Undefined until the runner reports that the handler has begun: the wait for a host does not count towards the
   * timeout.
   */
  deadlineMillis: number | undefined
  stopped: Stopped | undefined
  /** When a stop without a response is recorded as unconfirmed. */
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

/** Whether it has so many losses that its next one must be its own. */
export const isSuspect = ({ claimed }: Entry): boolean => claimed.losses >= suspectLosses

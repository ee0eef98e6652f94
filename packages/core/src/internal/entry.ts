/** An execution in a shift's hands. */
import type * as Fiber from "effect/Fiber"
import type { Span } from "effect/Tracer"
import type * as Broker from "../Broker.ts"
import type * as Definition from "../Definition.ts"
import { type Ended, type Stopped, suspectLosses } from "../Outcome.ts"
import type { Place } from "../Runner.ts"
import type * as Shares from "./shares.ts"

/** What a shift has in hand at one pool. */
export type Share = Shares.Share<Entry>

/** Times are of the process's clock, in milliseconds. */
export interface Entry {
  readonly claimed: Broker.Claimed
  readonly task: Definition.Any
  readonly share: Share
  readonly claimedAtMillis: number
  /** Entries are started in this order, as far as their pools allow. */
  readonly order: number
  phase: "waiting" | "running" | "settling"
  fiber: Fiber.Fiber<Ended> | undefined
  place: Place | undefined
  span: Span | undefined
  /** None until the runner says that the handler started: waiting for a host is not the task's time. */
  deadlineMillis: number | undefined
  stopped: Stopped | undefined
  /** When a stop without an answer is recorded as unconfirmed. */
  stopDeadlineMillis: number | undefined
}

/** How many have been made by this process. */
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

/** After losses. Its next one should be its own. */
export const isSuspect = ({ claimed }: Entry): boolean => claimed.losses >= suspectLosses

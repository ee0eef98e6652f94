/** A duty's turn. It runs apart from the ticks, because a lease must not wait for it. */
import * as Effect from "effect/Effect"
import type { Broker, Duty } from "../Broker.ts"

/** The most parts of a duty that are done in one turn. What is left waits for the next. */
export const maxParts = 200

/** Does a duty if its turn is not taken. A failure is told, and the next turn tries again. */
export const takeTurn = (broker: Broker["Service"], duty: Duty): Effect.Effect<void> =>
  Effect.gen(function*() {
    if (!(yield* broker.takeTurn(duty))) return
    for (let parts = 0; parts < maxParts; parts++) {
      if (!(yield* duty.perform)) return
    }
  }).pipe(Effect.catch(({ message }) =>
    Effect.annotateLogs(Effect.logWarning(`the upkeep failed, and is tried again: ${message}`), { duty: duty.name })
  ))

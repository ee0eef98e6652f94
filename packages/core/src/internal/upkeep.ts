/** Does a duty's turn. It runs apart from the ticks, because a lease must not wait for it. */
import * as Effect from "effect/Effect"
import type { Broker, Duty } from "../Broker.ts"

/** The most parts of a duty that are done in one turn. The rest waits for the next turn. */
export const maxParts = 200

/** Does a duty if its turn can be taken. A failure is logged, and the next turn tries again. */
export const takeTurn = (broker: Broker["Service"], duty: Duty): Effect.Effect<void> =>
  Effect.gen(function*() {
    if (!(yield* broker.takeTurn(duty))) return
    for (let parts = 0; parts < maxParts; parts++) {
      if (!(yield* duty.perform)) return
    }
  }).pipe(Effect.catch(({ message }) =>
    Effect.annotateLogs(Effect.logWarning(`the upkeep failed and will be retried: ${message}`), { duty: duty.name })
  ))

/** How a shift claims. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Broker from "../Broker.ts"
import { persistently } from "./persistently.ts"
import type { Shift } from "./shift.ts"
import type { Wanted } from "./slots.ts"

/** Claims executions. Also returns executions of an earlier claim whose response was lost. */
export const claim = (
  shift: Shift,
  want: Wanted & { readonly waited?: Duration.Duration }
): Effect.Effect<ReadonlyArray<Broker.Claimed>> => {
  const claimed = persistently(
    "claim",
    Effect.tapError(
      shift.broker.claim({ supervisor: shift.id, ...want }),
      () => Effect.sync(shift.due.doubt)
    ),
    []
  )
  return Effect.flatMap(claimed, (claimed) => shift.due.isDoubtful() ? recover(shift) : Effect.succeed(claimed))
}

/** Returns executions that are owned but not in hand, because the response of their claim was lost. */
const recover = (shift: Shift): Effect.Effect<ReadonlyArray<Broker.Claimed>> =>
  Effect.suspend(() => {
    shift.due.resolve()
    // Entries that were in hand when the request was sent may have been settled before the response arrived.
    const before = new Map(Array.from(shift.entries, ([id, { claimed }]) => [id, claimed.fence]))
    return Effect.map(persistently("claim", shift.broker.owned(shift.id), []), (owned) =>
      owned.filter(({ fence, id }) =>
        before.get(id) !== fence && shift.entries.get(id)?.claimed.fence !== fence
      ))
  })

/** Claims of a shift. */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Broker from "../Broker.ts"
import { persistently } from "./persistently.ts"
import type { Shift } from "./shift.ts"
import type { Wanted } from "./slots.ts"

/** Claims, and takes up what an earlier claim took, whose answer was lost. */
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

/** What is owned and not in hand: a claim whose answer was lost took it. */
const recover = (shift: Shift): Effect.Effect<ReadonlyArray<Broker.Claimed>> =>
  Effect.suspend(() => {
    shift.due.resolve()
    // What was in hand when the question was asked may have been settled by the time it is answered.
    const before = new Map(Array.from(shift.entries, ([id, { claimed }]) => [id, claimed.fence]))
    return Effect.map(persistently("claim", shift.broker.owned(shift.id), []), (owned) =>
      owned.filter(({ fence, id }) =>
        before.get(id) !== fence && shift.entries.get(id)?.claimed.fence !== fence
      ))
  })

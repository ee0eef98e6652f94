/** Runs the code of a workflow again on a history, without doing anything that the history does not hold. */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Told } from "../../RunStore.ts"
import { launch, type Process, type Registered } from "./launch.ts"
import type { Mismatch } from "./mismatch.ts"
import type { Home, Resident } from "./resident.ts"

const nothing = (): void => {}

/**
 * Replays until the code has been given all of the history, and uses what it has come to then. Fails if the code asks for
 * something else.
 */
export const replay = <A, E, R>(
  registered: Registered,
  told: Told,
  process: Process,
  use: (resident: Resident) => Effect.Effect<A, E, R>
): Effect.Effect<A, Mismatch | E, R> => {
  const { entries, ...run } = told
  const replayed = Effect.callback<Resident, Mismatch>((resume) => {
    const home: Home = {
      replay: {
        settled: () => resume(Effect.succeed(resident)),
        mismatched: (mismatch) => resume(Effect.fail(mismatch))
      },
      now: () => entries.at(-1)?.atMillis ?? run.startedAtMillis,
      commit: nothing,
      reclaim: nothing,
      cancelTask: nothing,
      alarm: nothing,
      waits: nothing,
      gone: nothing
    }
    const activation = {
      ...run,
      fence: 0,
      length: entries.length,
      unread: [],
      expiresAtMillis: Option.none(),
      nowMillis: home.now(),
      traceparent: Option.none()
    }
    const { begin, resident } = launch(home, registered, { activation, entries }, process)
    begin()
    return Effect.sync(resident.evict)
  })
  return Effect.acquireUseRelease(replayed, use, (resident) => Effect.sync(resident.evict))
}

/** Applies wakes, many in one statement, and one statement at a time. */
import * as RunStore from "@effect-ray/core/RunStore"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Desk } from "../desk.ts"
import { arrays, type Store } from "../store.ts"

/** The most wakes that one statement applies. */
const maxWakes = 1_000

/** After how long other processes may claim what a home has not claimed, in milliseconds: see `apply_wakes`. */
const homePatience = 25

interface Applied {
  readonly homes: ReadonlyArray<string> | null
  readonly ids: ReadonlyArray<string> | null
  readonly is_queued: boolean
  readonly more: boolean
}

export type Wakes = ReturnType<typeof makeWakes>

export const makeWakes = (store: Store, { notifier }: Desk) => {
  const { s } = store
  let isRunning = false
  let isWanted = false

  /** Applies a part. Returns whether there is more. */
  const apply: Effect.Effect<boolean, SqlError> = Effect.map(
    store.beside((sql) =>
      sql<Applied>`SELECT * FROM ${s}.apply_wakes(${maxWakes}, ${RunStore.queue}, ${arrays.text(RunStore.releases)})`
    ),
    ([applied]) => {
      const { homes, ids, is_queued, more } = applied!
      if (homes !== null) notifier.runs(homes, ids!)
      if (is_queued) notifier.enqueued(new Map([[RunStore.queue, 0]]), false)
      else if (homes !== null) notifier.enqueued(new Map([[RunStore.queue, homePatience]]), false)
      return more
    }
  )

  const applyAll = Effect.gen(function*() {
    while (isWanted) {
      isWanted = false
      while (yield* apply) {}
    }
  }).pipe(Effect.ensuring(Effect.sync(() => {
    isRunning = false
  })))

  return {
    apply,

    /** Applies what has been noted, in the background. What fails, the duty `wake` applies later. */
    start: (): void => {
      isWanted = true
      if (isRunning) return
      isRunning = true
      notifier.background(applyAll)
    }
  }
}

/**
 * Changing the code of workflows that have runs.
 *
 * A run goes on with the code that it finds. Where new code asks for other steps than a run's history holds, that run is
 * held. `Patch.active` tells the old runs from the new: it is true for a run that has not been there before the patch.
 *
 * ```ts
 * const parcels = (yield* Patch.active("two-parcels")) ? yield* shipTwo : yield* shipOne
 * ```
 *
 * When no open run is left that began without the patch, remove the old branch and write `Patch.deprecate` in its place.
 * When no open run is left that holds the patch, remove that too.
 */
import * as Effect from "effect/Effect"
import type { WorkflowInstance } from "effect/workflow/WorkflowEngine"
import { Current, type Current as Running } from "./internal/run/current.ts"

const running = (what: string): Effect.Effect<Running> =>
  Effect.flatMap(Current, (current) =>
    current === undefined || current.step !== undefined
      ? Effect.die(new Error(`${what}: only the body of a workflow has patches`))
      : Effect.succeed(current))

const keyOf = (id: string): string => `patch:${id}`

/**
 * Whether this run uses the new code of the patch. The first answer stays: it is recorded in the run's history.
 *
 * @category patching
 */
export const active = (id: string): Effect.Effect<boolean, never, WorkflowInstance> =>
  Effect.gen(function*() {
    const { resident } = yield* running(`Patch.active(${id})`)
    const isActive = yield* resident.mark(keyOf(id))
    return isActive === undefined ? yield* Effect.interrupt : isActive
  })

/**
 * Accepts runs that hold the patch, and those that do not. Put it where `active` was, when no run needs the old code any
 * more.
 *
 * @category patching
 */
export const deprecate = (id: string): Effect.Effect<void, never, WorkflowInstance> =>
  Effect.map(running(`Patch.deprecate(${id})`), ({ resident }) => resident.acceptMark(keyOf(id)))

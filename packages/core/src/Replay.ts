/**
 * Histories of runs, and replaying them in tests.
 *
 * Export the histories of runs that matter, keep them beside the workflow's tests, and replay them with the code as it is
 * now: a change that would hold these runs fails the test instead.
 *
 * ```ts
 * yield* Replay.run(Order, history).pipe(Effect.provide(OrderLive), ...)
 * ```
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Workflow from "effect/workflow/Workflow"
import type { WorkflowEngine } from "effect/workflow/WorkflowEngine"
import * as engine from "./internal/run/engine.ts"
import { runIdOf } from "./internal/run/ids.ts"
import { describe } from "./internal/run/mismatch.ts"

/** An entry of a history. @category models */
export class Entry extends Schema.Class<Entry>("@effect-ray/core/Replay/Entry")({
  /** Unique in the history, for instance `step:charge/1`; messages may come more than once. */
  key: Schema.String,
  /** `run`: the code asked for it first. `outside`: it arrived, or a step asked for it. */
  source: Schema.Literals(["run", "outside"]),
  /** JSON text. */
  value: Schema.String,
  /** When it was recorded, in milliseconds since 1970. */
  atMillis: Schema.Finite
}) {}

/**
 * What a run was told, in order. Its JSON form is stable.
 *
 * @category models
 */
export class History extends Schema.Class<History>("@effect-ray/core/Replay/History")({
  /** The version of this form. */
  version: Schema.Literal(1),
  /** The workflow's name. */
  workflow: Schema.String,
  /** The run's id: the execution id of Effect's engine. */
  id: Schema.String,
  /** The payload, as stored JSON text, and the number of its format. */
  payload: Schema.String,
  format: Schema.Int,
  /** When it was started, in milliseconds since 1970. */
  startedAtMillis: Schema.Finite,
  entries: Schema.Array(Entry)
}) {}

/**
 * The code asks for something else than its history holds. It depends on something that is not in the history, such as the
 * time of the process, or it has changed: see `Patch`.
 *
 * @category errors
 */
export class NonDeterminism extends Schema.TaggedError<NonDeterminism>("@effect-ray/core/Replay/NonDeterminism")(
  "NonDeterminism",
  {
    /** The workflow's name. */
    workflow: Schema.String,
    /** The position in the history, from 0. */
    position: Schema.Int,
    /** The key that the history holds there. */
    recorded: Schema.String,
    /** The keys for which the code asks. */
    asked: Schema.Array(Schema.String)
  }
) {
  override get message() {
    return `${this.workflow}: ${describe(this)}`
  }
}

/** The workflow is not registered with the engine. @category errors */
export class NotRegistered extends Schema.TaggedError<NotRegistered>("@effect-ray/core/Replay/NotRegistered")(
  "NotRegistered",
  { workflow: Schema.String }
) {
  override get message() {
    return `${this.workflow} is not registered with this engine: provide what its toLayer returns`
  }
}

/**
 * Runs a workflow's code on a history. No step runs and nothing is written: what the history does not hold, the code waits
 * for in vain. Succeeds if the code asks for all of it.
 *
 * @category replaying
 */
export const run = (
  workflow: Workflow.Any,
  history: History
): Effect.Effect<void, NonDeterminism | NotRegistered, WorkflowEngine> =>
  Effect.gen(function*() {
    const { host } = yield* engine.inside("Replay.run")
    const { format, id, payload, startedAtMillis } = history
    const replayed = host.replay({
      id: yield* runIdOf(workflow._tag, id),
      name: id,
      workflow: workflow._tag,
      payload,
      format,
      link: 1,
      startedAtMillis,
      entries: history.entries
    }, () => Effect.void)
    if (replayed === undefined) return yield* new NotRegistered({ workflow: workflow._tag })
    yield* Effect.mapError(
      replayed,
      (mismatch) => new NonDeterminism({ workflow: workflow._tag, ...mismatch })
    )
  })

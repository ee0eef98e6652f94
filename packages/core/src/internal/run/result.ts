/** The stored results of runs. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Workflow from "effect/workflow/Workflow"
import * as codecs from "./codecs.ts"
import * as exits from "./exits.ts"

/** The stored result, decoded. Dies with a defect that the workflow does not capture. */
export const decodeResult = (
  workflow: Workflow.Any,
  json: string
): Effect.Effect<Workflow.Complete<unknown, unknown>> => {
  const died = exits.openDied(json)
  const exit = Effect.orDie(codecs.ofWorkflow(workflow).decodeExit(died ?? json))
  return Effect.flatMap(exit, (exit) =>
    died !== undefined && Exit.isFailure(exit)
      ? Effect.failCause(exit.cause as Cause.Cause<never>)
      : Effect.succeed(new Workflow.Complete({ exit })))
}

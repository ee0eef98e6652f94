/** The stored results of runs. */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Workflow from "effect/workflow/Workflow"
import * as codecs from "./codecs.ts"
import * as exits from "./exits.ts"

/** The result of a run whose time was over. */
export const timedOut = `{"_tag":"TimedOut"}`

/** The result of a run that was terminated. */
export const terminated = (reason: string): string => JSON.stringify({ _tag: "Terminated", reason })

/** Why a run has no result of its own, if it has none. */
export const endOf = (json: string): { readonly _tag: "TimedOut" } | {
  readonly _tag: "Terminated"
  readonly reason: string
} | undefined => json.startsWith(`{"_tag":"T`) ? JSON.parse(json) as ReturnType<typeof endOf> : undefined

/** The stored result, decoded. Dies with a defect that the workflow does not capture. */
export const decodeResult = (
  workflow: Workflow.Any,
  json: string
): Effect.Effect<Workflow.Complete<unknown, unknown>> => {
  const end = endOf(json)
  if (end !== undefined) {
    const why = end._tag === "TimedOut" ? "its time was over" : `it was terminated: ${end.reason}`
    return Effect.succeed(
      new Workflow.Complete({ exit: Exit.die(new Error(`${workflow._tag} has no result: ${why}`)) })
    )
  }
  const died = exits.openDied(json)
  const exit = Effect.orDie(codecs.ofWorkflow(workflow).decodeExit(died ?? json))
  return Effect.flatMap(exit, (exit) =>
    died !== undefined && Exit.isFailure(exit)
      ? Effect.failCause(exit.cause as Cause.Cause<never>)
      : Effect.succeed(new Workflow.Complete({ exit })))
}

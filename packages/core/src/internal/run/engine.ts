/** What our engine offers beyond Effect's: the host and the stores behind it. */
import * as Effect from "effect/Effect"
import { WorkflowEngine } from "effect/workflow/WorkflowEngine"
import type * as Workflow from "effect/workflow/Workflow"
import type { Broker } from "../../Broker.ts"
import type { NewRun, RunId, RunStore } from "../../RunStore.ts"
import type { Host } from "./host.ts"

/** What a `RunHost` engine has inside. */
export interface Inside {
  readonly host: Host
  readonly store: RunStore["Service"]
  readonly broker: Broker["Service"]
  /** A run as it is stored. Dies if the payload does not fit the workflow's Schema. */
  readonly newRun: (workflow: Workflow.Any, executionId: string, payload: object) => Effect.Effect<NewRun>
  /** Waits for the stored result of a run. */
  readonly resultOf: (id: RunId) => Effect.Effect<string>
  /** Sends a request to a run, if it is known: `cancel`, `cancel at once`, or `resume`. */
  readonly request: (id: RunId, key: string) => Effect.Effect<void>
}

const key = "~@effect-ray/core/RunHost"

export const withInside = (engine: WorkflowEngine["Service"], inside: Inside): WorkflowEngine["Service"] =>
  Object.assign(engine, { [key]: inside })

/** What is inside of the engine in the context. Dies if that is another one. */
export const inside = (what: string): Effect.Effect<Inside, never, WorkflowEngine> =>
  Effect.flatMap(WorkflowEngine, (engine) => {
    const found = (engine as { readonly [key]?: Inside })[key]
    return found === undefined
      ? Effect.die(
        new Error(`${what} needs the engine of effect-ray: provide RunHost.layer, not another WorkflowEngine`)
      )
      : Effect.succeed(found)
  })

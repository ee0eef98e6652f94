/** Runs the code of a workflow in a run that is in memory. */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import * as Workflow from "effect/workflow/Workflow"
import { WorkflowEngine, WorkflowInstance } from "effect/workflow/WorkflowEngine"
import * as Envelope from "../../Envelope.ts"
import type { Activation } from "../../RunStore.ts"
import { boundExit } from "./bounds.ts"
import * as codecs from "./codecs.ts"
import { ofRun } from "./current.ts"
import * as exits from "./exits.ts"
import * as results from "./result.ts"
import { type Home, makeResident, type Options, type Resident } from "./resident.ts"

/** The code of a workflow, as Effect's engine registers it. */
export type Body = (
  payload: object,
  executionId: string
) => Effect.Effect<unknown, unknown, WorkflowEngine | WorkflowInstance>

/** A workflow that this process runs. */
export interface Registered {
  readonly workflow: Workflow.Any
  readonly body: Body
  /** The services of its Schemas. */
  readonly context: Context.Context<never>
}

/** The process in which it runs. */
export interface Process {
  readonly context: Context.Context<never>
  readonly engine: () => WorkflowEngine["Service"]
  readonly fork: (effect: Effect.Effect<unknown>) => void
}

/** Makes a resident; `begin` runs its code. */
export const launch = (
  home: Home,
  { body: execute, context: services, workflow }: Registered,
  given: Pick<Options, "activation" | "entries">,
  { context, engine, fork }: Process
): { readonly resident: Resident; readonly begin: () => void } => {
  const { activation } = given
  const instance = WorkflowInstance.initial(workflow, activation.name)
  /** The fiber of the body itself: an interruption of the one around it would hide the body's result. */
  let body: Fiber.Fiber<unknown, unknown> | undefined
  let hasEnded = false
  const resident = makeResident(home, {
    ...given,
    interrupt: () => {
      instance.interrupted = true
      instance.suspended = false
      body?.interruptUnsafe()
    },
    abandon: () => {
      instance.abandoned = true
      body?.interruptUnsafe()
      if (hasEnded) fork(Scope.close(instance.scope, Exit.void))
    }
  })
  const program = Effect.flatMap(
    Effect.provideContext(decodePayload(workflow, activation), services),
    (payload) =>
      Workflow.intoResult(Effect.withFiber((fiber) => {
        body = fiber
        // Before its payload was decoded.
        if (instance.abandoned || instance.interrupted) return Effect.interrupt
        return execute(payload, activation.name)
      }))
  ).pipe(
    Effect.provideService(WorkflowInstance, instance),
    Effect.provideService(WorkflowEngine, engine())
  ) as Effect.Effect<Workflow.Result<unknown, unknown>>
  return {
    resident,
    begin: () => {
      resident.begin(activation.unread)
      const fiber = Effect.runForkWith(ofRun(resident, context))(program)
      fiber.addObserver((exit) => {
        hasEnded = true
        if (!resident.isGone()) fork(Effect.provideContext(end(workflow, resident, instance, exit), services))
      })
    }
  }
}

/** Tells the resident how its code has ended. */
const end = Effect.fnUntraced(function*(
  workflow: Workflow.Any,
  resident: Resident,
  instance: WorkflowInstance["Service"],
  exit: Exit.Exit<Workflow.Result<unknown, unknown>>
) {
  if (instance.abandoned) return
  if (Exit.isFailure(exit)) {
    // A defect that the workflow does not capture.
    const json = yield* encodeExit(workflow, exit)
    return resident.end({ _tag: "Over", state: "failed", result: exits.died(json) })
  }
  const result = exit.value
  if (result._tag === "Suspended") {
    const held = result.failed === true ? describeCause(result) : undefined
    return resident.end({ _tag: "Suspended", held })
  }
  if (resident.isTimedOut() && isInterruptedOnly(result.exit)) {
    return resident.end({ _tag: "Over", state: "failed", result: results.timedOut })
  }
  const state = Exit.isSuccess(result.exit)
    ? "succeeded"
    : instance.interrupted && isInterruptedOnly(result.exit)
    ? "cancelled"
    : "failed"
  const json = yield* Effect.exit(encodeExit(workflow, result.exit))
  if (Exit.isSuccess(json)) {
    const bound = yield* boundExit(`the result of ${workflow._tag}`, json.value)
    return resident.end({ _tag: "Over", state: bound === json.value ? state : "failed", result: bound })
  }
  // It does not fit the workflow's Schemas.
  resident.end({ _tag: "Over", state: "failed", result: yield* encodeExit(workflow, json) })
})

const decodePayload = (workflow: Workflow.Any, { format, payload }: Activation): Effect.Effect<object> =>
  format === Envelope.format
    ? Effect.orDie(codecs.ofWorkflow(workflow).decodePayload(payload))
    : Effect.die(new Error(Envelope.unknownFormat(format)))

const encodeExit = (workflow: Workflow.Any, exit: Exit.Exit<unknown, unknown>): Effect.Effect<string> =>
  Effect.orDie(codecs.ofWorkflow(workflow).encodeExit(exit))

const isInterruptedOnly = (exit: Exit.Exit<unknown, unknown>): boolean =>
  Exit.isFailure(exit) && exit.cause.reasons.every(({ _tag }) => _tag === "Interrupt")

const describeCause = ({ cause }: Workflow.Suspended): string =>
  cause === undefined ? "its code has failed" : String(cause)

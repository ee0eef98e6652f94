/**
 * The codecs of workflows and steps, compiled once. Compiling takes longer than all else that a short run does, and code
 * makes new activities with the same Schemas again and again.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type * as Activity from "effect/workflow/Activity"
import type * as Workflow from "effect/workflow/Workflow"

type AnyExit = Exit.Exit<unknown, unknown>
type Encode<A, B> = (value: A) => Effect.Effect<B, Schema.SchemaError>

interface WorkflowCodec {
  readonly encodePayload: Encode<object, string>
  readonly decodePayload: Encode<string, object>
  readonly encodeExit: Encode<AnyExit, string>
  readonly decodeExit: Encode<string, AnyExit>
}

const workflows = new WeakMap<Schema.Top, WeakMap<Schema.Top, WeakMap<Schema.Top, WorkflowCodec>>>()

/** The codec of a workflow. The services of its Schemas come from the context of whoever uses it. */
export const ofWorkflow = ({ errorSchema, payloadSchema, successSchema }: Workflow.Any): WorkflowCodec => {
  const bySuccess = remember(workflows, payloadSchema, () => new WeakMap())
  const byError = remember(bySuccess, successSchema, () => new WeakMap())
  return remember(byError, errorSchema, () => {
    const payload = Schema.fromJsonString(Schema.toCodecJson(payloadSchema))
    const exit = Schema.fromJsonString(Schema.toCodecJson(Schema.Exit(successSchema, errorSchema, Schema.Defect())))
    return {
      encodePayload: Schema.encodeEffect(payload) as Encode<object, string>,
      decodePayload: Schema.decodeEffect(payload) as Encode<string, object>,
      encodeExit: (value) => Effect.map((Schema.encodeEffect(exit) as Encode<AnyExit, string>)(value), withValue),
      decodeExit: Schema.decodeEffect(exit) as Encode<string, AnyExit>
    }
  })
}

/** JSON has no undefined, and leaves out a success of it. */
const withValue = (json: string): string => json === `{"_tag":"Success"}` ? `{"_tag":"Success","value":null}` : json

const steps = new WeakMap<Schema.Constraint, WeakMap<Schema.Constraint, Encode<AnyExit, AnyExit>>>()

/** Decodes a step's exit, whose value and error are JSON. */
export const ofStep = ({ errorSchema, exitSchemaPartial, successSchema }: Activity.Activity<any, any, any>) =>
  remember(
    remember(steps, successSchema, () => new WeakMap()),
    errorSchema,
    () => Schema.decodeEffect(exitSchemaPartial) as Encode<AnyExit, AnyExit>
  )

const remember = <K extends WeakKey, V>(map: WeakMap<K, V>, key: K, make: () => V): V => {
  let value = map.get(key)
  if (value === undefined) map.set(key, value = make())
  return value
}

/**
 * The stored form of an ended execution: one JSON text for success, declared error and `TaskError` reason.
 *
 * A success is wrapped by concatenation, without parsing it, because the supervisor
 * settles tens of thousands of them a second and reads none.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as TaskError from "./TaskError.ts"

/**
 * The number of the stored format. Rows carry it, so that a later format can be told apart.
 *
 * @category constants
 */
export const format = 1

/** What to say of a row in a format that this version does not know. @category formatting */
export const unknownFormat = (found: number): string =>
  `it is stored in format ${found}, and this version reads format ${format}: a newer version wrote it, and has to read it`

const ReasonJson = Schema.fromJsonString(Schema.toCodecJson(TaskError.Reason))
const encodeReason = Schema.encodeSync(ReasonJson)

/** Wraps a JSON text that the success Schema encoded. @category encoding */
export const success = (value: string): string => `{"_tag":"Success","value":${value}}`

/** Wraps a JSON text that the error Schema encoded. @category encoding */
export const failure = (error: string): string => `{"_tag":"Failure","error":${error}}`

/** Wraps a reason. @category encoding */
export const taskError = (reason: TaskError.Reason): string => `{"_tag":"TaskError","reason":${encodeReason(reason)}}`

const Stored = Schema.fromJsonString(Schema.Union([
  Schema.Struct({ _tag: Schema.Literal("Success"), value: Schema.Json }),
  Schema.Struct({ _tag: Schema.Literal("Failure"), error: Schema.Json }),
  Schema.Struct({ _tag: Schema.Literal("TaskError"), reason: Schema.toCodecJson(TaskError.Reason) })
]))
const decodeStored = Schema.decodeEffect(Stored)

/**
 * Decodes an envelope with the task's Schemas. What does not fit them becomes a `TaskError` with reason `Undecodable`.
 *
 * @category decoding
 */
export const decode = Effect.fnUntraced(function*<S extends Schema.Top, E extends Schema.Top>(options: {
  readonly task: string
  readonly executionId: string
  readonly successSchema: S
  readonly errorSchema: E
  readonly envelope: string
  /** The row's format. A reason reads the same in every one. */
  readonly format?: number
}): Effect.fn.Return<
  Exit.Exit<S["Type"], E["Type"] | TaskError.TaskError>,
  never,
  S["DecodingServices"] | E["DecodingServices"]
> {
  const fail = (reason: TaskError.Reason) =>
    Exit.fail(new TaskError.TaskError({ task: options.task, executionId: options.executionId, reason }))
  const undecodable = (what: "result" | "error") => (error: Schema.SchemaError) =>
    Effect.succeed(fail(new TaskError.Undecodable({ what, detail: error.message })))
  const stored = yield* Effect.exit(decodeStored(options.envelope))
  if (Exit.isFailure(stored)) {
    return fail(
      new TaskError.Undecodable({ what: "result", detail: "the stored envelope is not one this version wrote" })
    )
  }
  if (stored.value._tag === "TaskError") return fail(stored.value.reason)
  if ((options.format ?? format) !== format) {
    return fail(new TaskError.Undecodable({ what: "result", detail: unknownFormat(options.format!) }))
  }
  switch (stored.value._tag) {
    case "Failure":
      return yield* Schema.decodeUnknownEffect(Schema.toCodecJson(options.errorSchema))(stored.value.error).pipe(
        Effect.map((error): Exit.Exit<S["Type"], E["Type"] | TaskError.TaskError> => Exit.fail(error)),
        Effect.catchTag("SchemaError", undecodable("error"))
      )
    case "Success":
      return yield* Schema.decodeUnknownEffect(Schema.toCodecJson(options.successSchema))(stored.value.value).pipe(
        Effect.map((value): Exit.Exit<S["Type"], E["Type"] | TaskError.TaskError> => Exit.succeed(value)),
        Effect.catchTag("SchemaError", undecodable("result"))
      )
  }
})

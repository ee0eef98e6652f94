/**
 * The stored form of an ended execution: its success, declared error or `TaskError` reason, as one JSON text.
 *
 * A success is wrapped by concatenation, without parsing it, because the supervisor
 * settles tens of thousands of them a second and reads none. An envelope is opened in the
 * same way, by its first and last characters, so that no text inside it can close it and
 * begin another.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import { sanitise } from "./internal/text.ts"
import * as Limits from "./Limits.ts"
import * as TaskError from "./TaskError.ts"

/**
 * The number of the stored format. Rows carry it, so that later formats can be distinguished.
 *
 * @category constants
 */
export const format = 1

/** The message for a row in a format that this version does not know. @category formatting */
export const unknownFormat = (found: number): string =>
  `it is stored in format ${found}, and this version reads format ${format}: a newer version wrote it, and has to read it`

const Reason = Schema.toCodecJson(TaskError.Reason)
const encodeReason = Schema.encodeSync(Schema.fromJsonString(Reason))
const decodeReason = Schema.decodeUnknownEffect(Reason)

/** The text before the value in each kind of envelope. After the value comes one brace. */
const heads = {
  Success: `{"_tag":"Success","value":`,
  Failure: `{"_tag":"Failure","error":`,
  TaskError: `{"_tag":"TaskError","reason":`
} as const

/** Wraps a JSON text that the success Schema encoded. @category encoding */
export const success = (value: string): string => `${heads.Success}${value}}`

/** Wraps a JSON text that the error Schema encoded. @category encoding */
export const failure = (error: string): string => `${heads.Failure}${error}}`

/** Wraps a reason. @category encoding */
export const taskError = (reason: TaskError.Reason): string => `${heads.TaskError}${encodeReason(reason)}}`

interface Opened {
  readonly kind: keyof typeof heads
  readonly json: unknown
}

/** Parses the text between the head and the last brace. */
const open = (envelope: string): Opened | undefined => {
  for (const kind of ["Success", "Failure", "TaskError"] as const) {
    if (!envelope.startsWith(heads[kind]) || !envelope.endsWith("}")) continue
    try {
      return { kind, json: JSON.parse(envelope.slice(heads[kind].length, -1)) }
    } catch {
      return undefined
    }
  }
  return undefined
}

/**
 * Decodes an envelope with the task's Schemas. A value that does not fit becomes a `TaskError` with the reason
 * `Undecodable`.
 *
 * @category decoding
 */
export const decode = Effect.fnUntraced(function*<S extends Schema.Top, E extends Schema.Top>(options: {
  readonly task: string
  readonly executionId: string
  readonly successSchema: S
  readonly errorSchema: E
  readonly envelope: string
  /** The row's format. Reasons are the same in every format. */
  readonly format?: number
}): Effect.fn.Return<
  Exit.Exit<S["Type"], E["Type"] | TaskError.TaskError>,
  never,
  S["DecodingServices"] | E["DecodingServices"]
> {
  const fail = (reason: TaskError.Reason) =>
    Exit.fail(new TaskError.TaskError({ task: options.task, executionId: options.executionId, reason }))
  const undecodable = (what: "result" | "error") => (error: Schema.SchemaError) =>
    Effect.succeed(fail(new TaskError.Undecodable({ what, detail: sanitise(error.message, Limits.maxDetailLength) })))
  const foreign = () =>
    fail(new TaskError.Undecodable({ what: "result", detail: "the stored envelope is not one this version wrote" }))
  const opened = open(options.envelope)
  if (opened === undefined) return foreign()
  const { json, kind } = opened
  if (kind !== "TaskError" && (options.format ?? format) !== format) {
    return fail(new TaskError.Undecodable({ what: "result", detail: unknownFormat(options.format!) }))
  }
  switch (kind) {
    case "TaskError":
      return Exit.match(yield* Effect.exit(decodeReason(json)), { onFailure: foreign, onSuccess: fail })
    case "Failure":
      return yield* Schema.decodeUnknownEffect(Schema.toCodecJson(options.errorSchema))(json).pipe(
        Effect.map((error): Exit.Exit<S["Type"], E["Type"] | TaskError.TaskError> => Exit.fail(error)),
        Effect.catchTag("SchemaError", undecodable("error"))
      )
    case "Success":
      return yield* Schema.decodeUnknownEffect(Schema.toCodecJson(options.successSchema))(json).pipe(
        Effect.map((value): Exit.Exit<S["Type"], E["Type"] | TaskError.TaskError> => Exit.succeed(value)),
        Effect.catchTag("SchemaError", undecodable("result"))
      )
  }
})

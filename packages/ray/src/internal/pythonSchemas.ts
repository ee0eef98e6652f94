/**
 * What a Python function is given and what it answers, against the Schemas of its task. A Node host does so itself: it has
 * the task's codecs.
 */
import * as Handler from "@effect-ray/core/Handler"
import { Ended } from "@effect-ray/core/Outcome"
import type * as Task from "@effect-ray/core/Task"
import * as TaskError from "@effect-ray/core/TaskError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

type What = TaskError.Undecodable["what"]

/** Why a JSON text does not fit, if it does not. */
type Check = (text: string) => Effect.Effect<string | undefined>

interface Checks {
  readonly payload: Check
  readonly success: Check
  readonly error: Check
}

/** The end that a payload has which its task cannot take; none when it can. */
export const ofPayload = (task: Task.Any, payload: string): Effect.Effect<Ended | undefined> =>
  Effect.map(checksOf(task).payload(payload), (why) => why === undefined ? undefined : undecodable("payload", why))

/** The end of an attempt, unless what it ended with does not fit. */
export const ofEnd = (task: Task.Any, ended: Ended): Effect.Effect<Ended> => {
  if (ended._tag === "Succeeded") return unless(ended, "result", checksOf(task).success(ended.value))
  if (ended._tag === "Failed") {
    const { error, told } = parts(ended.error)
    return unless(error === ended.error ? ended : Ended.Failed({ error }), "error", checksOf(task).error(error), told)
  }
  return Effect.succeed(ended)
}

/** A declared error as a Python host sends it: its JSON, and behind a line feed what is told of it if it does not fit. */
const parts = (text: string): { readonly error: string; readonly told: string | undefined } => {
  const end = text.indexOf("\n")
  if (end < 0) return { error: text, told: undefined }
  return { error: text.slice(0, end), told: text.slice(end + 1) }
}

const unless = (
  ended: Ended,
  what: What,
  why: Effect.Effect<string | undefined>,
  told?: string
): Effect.Effect<Ended> =>
  Effect.map(why, (why) => {
    if (why === undefined) return ended
    if (told === undefined) return undecodable(what, why)
    return undecodable(what, `${cut(why, maxWhyLength)}\n${wordsIn(told)}`)
  })

/** How much of why an error does not fit is told. The rest of the detail says what was raised, and where. */
const maxWhyLength = 800

const cut = (text: string, maxLength: number): string =>
  text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text

const wordsIn = (json: string): string => {
  try {
    return String(JSON.parse(json))
  } catch {
    return json
  }
}

const undecodable = (what: What, detail: string): Ended =>
  Ended.Died({ reason: TaskError.bounded(new TaskError.Undecodable({ what, detail })) })

// Compiling a decoder costs far more than using it.
const known = new WeakMap<Task.Any, Checks>()

const checksOf = (task: Task.Any): Checks => {
  let checks = known.get(task)
  if (checks === undefined) known.set(task, checks = makeChecks(task))
  return checks
}

const makeChecks = (task: Task.Any): Checks => {
  const fits = fitsError(task.errorSchema)
  return {
    payload: makeCheck(task.payloadSchema, () => undefined),
    success: makeCheck(task.successSchema, (_, text) => inexact(text)),
    error: makeCheck(task.errorSchema, (json, text) => inexact(text) ?? fits(json))
  }
}

/** `beforehand`: what is wrong with it in the words of Python, before the Schema speaks. */
const makeCheck = (
  schema: Schema.Top,
  beforehand: (json: unknown, text: string) => string | undefined
): Check => {
  // `Task.python` sees to it that the Schemas of its tasks decode without services.
  const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(schema)) as (
    json: unknown
  ) => Effect.Effect<unknown, Schema.SchemaError>
  return (text) => {
    let json: unknown
    try {
      json = JSON.parse(text)
    } catch (error) {
      return Effect.succeed(String(error))
    }
    const why = beforehand(json, text)
    if (why !== undefined) return Effect.succeed(why)
    return Effect.matchCause(decode(json), { onFailure: Handler.misfit, onSuccess: () => undefined })
  }
}

// A run of digits that no fraction is, or an exponent that could lead beyond all numbers. In texts there are such too.
const suspicious = /(?<![.\d])\d{16}|[eE]\+?\d{3}/

/**
 * Which number in a JSON text would be another one here, if any would. Python's integers have no end; of a number no more than
 * 2^53 is exact, and the rest would be changed and nobody told.
 */
export const inexact = (text: string): string | undefined => {
  if (!suspicious.test(text)) return undefined
  let found: string | undefined
  const look = (_key: string, value: unknown, { source }: { readonly source?: string }): unknown => {
    if (typeof value === "number" && source !== undefined && !isExact(source, value)) found ??= source
    return value
  }
  // The third argument has been there since Node 21; the types do not know it yet.
  JSON.parse(text, look as (key: string, value: unknown) => unknown)
  if (found === undefined) return undefined
  return `${
    cut(found, maxDigits)
  } is beyond what a number holds exactly; answer it as a text, for Schema.BigInt or Schema.String`
}

/** As much of a long number as an error tells. */
const maxDigits = 40

const isExact = (source: string, value: number): boolean => {
  if (!Number.isFinite(value)) return false
  // What has a fraction or an exponent was a floating-point number there too.
  return Number.isSafeInteger(value) || /[.eE]/.test(source) || BigInt(source) === BigInt(value)
}

/** As much of a tag as an error tells. */
const maxTagLength = 200

/** Whether the tag of an error that was raised by `effect_ray.fail` is one that the task declares. */
const fitsError = (schema: Schema.Top): (json: unknown) => string | undefined => {
  const tags = tagsOf(SchemaAST.toEncoded(Schema.toCodecJson(schema).ast))
  // Where some are declared without a tag, only the Schema can tell.
  if (tags === undefined) return () => undefined
  const declared = tags.length === 0 ? "declares no error" : `declares ${tags.join(", ")}`
  return (json) => {
    const tag = typeof json === "object" && json !== null && "_tag" in json ? String(json._tag) : undefined
    return tag === undefined || tags.includes(tag)
      ? undefined
      : `effect_ray.fail was given the tag ${cut(JSON.stringify(tag), maxTagLength)}, and the task ${declared}`
  }
}

const tagsOf = (ast: SchemaAST.AST): ReadonlyArray<string> | undefined => {
  if (SchemaAST.isNever(ast)) return []
  if (SchemaAST.isUnion(ast)) {
    const tags = ast.types.map(tagsOf)
    return tags.every((some) => some !== undefined) ? tags.flat() : undefined
  }
  if (!SchemaAST.isObjects(ast)) return undefined
  const tag = ast.propertySignatures.find(({ name }) => name === "_tag")?.type
  return tag !== undefined && SchemaAST.isLiteral(tag) ? [String(tag.literal)] : undefined
}

/**
 * Checks what a Python function receives and returns against the Schemas of its task. A Node host checks this itself,
 * because it has the task's codecs.
 */
import * as Handler from "@effect-ray/core/Handler"
import { Ended } from "@effect-ray/core/Outcome"
import type * as Task from "@effect-ray/core/Task"
import * as TaskError from "@effect-ray/core/TaskError"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

type What = TaskError.Undecodable["what"]

/** Returns why a JSON text does not fit, or undefined if it fits. */
type Check = (text: string) => Effect.Effect<string | undefined>

interface Checks {
  readonly payload: Check
  readonly success: Check
  readonly error: Check
}

/** Returns how an attempt ends whose payload does not fit; undefined if it fits. */
export const ofPayload = (task: Task.Any, payload: string): Effect.Effect<Ended | undefined> =>
  Effect.map(checksOf(task).payload(payload), (why) => why === undefined ? undefined : undecodable("payload", why))

/** Returns the end of an attempt, or `Undecodable` if its result or error does not fit. */
export const ofEnd = (task: Task.Any, ended: Ended): Effect.Effect<Ended> => {
  if (ended._tag === "Succeeded") return unless(ended, "result", checksOf(task).success(ended.value))
  if (ended._tag === "Failed") {
    const { error, told } = parts(ended.error)
    return unless(error === ended.error ? ended : Ended.Failed({ error }), "error", checksOf(task).error(error), told)
  }
  return Effect.succeed(ended)
}

/**
 * Splits a declared error as a Python host sends it: the JSON, a line feed, and the text to report if the error does
 * not fit.
 */
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

/**
 * How many characters of the reason why an error does not fit are reported. The rest of the detail says what was
 * raised, and where.
 */
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

// Compiling a decoder takes far longer than using it.
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

/** Makes a check. `beforehand` describes problems in terms of Python, before the Schema is used. */
const makeCheck = (
  schema: Schema.Top,
  beforehand: (json: unknown, text: string) => string | undefined
): Check => {
  // `Task.python` ensures that the Schemas of its tasks decode without services.
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

// Finds 16 digits in an integer, or an exponent that may lead to infinity. Strings may contain these too.
const suspicious = /(?<![.\d])\d{16}|[eE]\+?\d{3}/

/**
 * Returns why a number in a JSON text would change here, if one would. Python's integers are unlimited, but a number is
 * only exact up to 2^53, and larger ones would be changed without an error.
 */
export const inexact = (text: string): string | undefined => {
  if (!suspicious.test(text)) return undefined
  let found: string | undefined
  const look = (_key: string, value: unknown, { source }: { readonly source?: string }): unknown => {
    if (typeof value === "number" && source !== undefined && !isExact(source, value)) found ??= source
    return value
  }
  // The third argument exists since Node 21, but is missing in the types.
  JSON.parse(text, look as (key: string, value: unknown) => unknown)
  if (found === undefined) return undefined
  return `${
    cut(found, maxDigits)
  } is beyond what a number holds exactly; return it as a string, for Schema.BigInt or Schema.String`
}

/** How many characters of a long number an error has. */
const maxDigits = 40

const isExact = (source: string, value: number): boolean => {
  if (!Number.isFinite(value)) return false
  // A number with a fraction or an exponent was a floating-point number in Python too.
  return Number.isSafeInteger(value) || /[.eE]/.test(source) || BigInt(source) === BigInt(value)
}

/** How many characters of a tag an error has. */
const maxTagLength = 200

/** Checks that the task declares the tag of an error that `effect_ray.fail` raised. */
const fitsError = (schema: Schema.Top): (json: unknown) => string | undefined => {
  const tags = tagsOf(SchemaAST.toEncoded(Schema.toCodecJson(schema).ast))
  // If one of the declared errors has no tag, only the Schema can decide.
  if (tags === undefined) return () => undefined
  const declared = tags.length === 0 ? "declares no error" : `declares ${tags.join(", ")}`
  return (json) => {
    const tag = typeof json === "object" && json !== null && "_tag" in json ? String(json._tag) : undefined
    return tag === undefined || tags.includes(tag)
      ? undefined
      : `effect_ray.fail was called with the tag ${cut(JSON.stringify(tag), maxTagLength)}, but the task ${declared}`
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

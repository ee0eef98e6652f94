/** From a value to the JSON text that its Schema makes of it. */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Limits from "../Limits.ts"
import { sanitise } from "./text.ts"

/** What was to be stored is not JSON: something of it would be lost, and nothing would be said. */
export class NotJson extends Data.TaggedError("NotJson")<{ readonly message: string }> {}

/** As much of a path as an error tells. */
const maxPathLength = 1_000

/** Every member costs two characters at least, and no broker carries more than these. */
const maxMembers = Limits.maxCarriedBytes / 2

/** The longest array that is searched for named properties: to list its keys takes several times as long as to write it. */
const maxSearchedLength = 1_000

/**
 * Encodes values by the Schema and writes them as JSON. `Schema.toCodecJson` lets through whatever stands in a `Schema.Any`, and
 * makes an empty record of a Map where the Schema is a record; `JSON.stringify` throws, or leaves things out. All of that
 * fails here. `given` is what the caller handed over, where that is not the value itself.
 */
export const toText = (schema: Schema.Top) => {
  const encode = Schema.encodeUnknownEffect(Schema.toCodecJson(schema)) as (
    value: unknown
  ) => Effect.Effect<unknown, Schema.SchemaError>
  return (value: unknown, given: unknown = value): Effect.Effect<string, Schema.SchemaError | NotJson> =>
    Effect.flatMap(encode(value), (encoded) => {
      try {
        return Effect.succeed(JSON.stringify(plain(encoded, given)))
      } catch (error) {
        // A getter or a proxy threw; or it is nested too deep, or its text is too long for this machine.
        return Effect.fail(
          error instanceof NotJson ? error : new NotJson({ message: `Expected JSON value: ${String(error)}` })
        )
      }
    })
}

/** An object or an array that is being copied. */
interface Open {
  readonly value: Record<PropertyKey, unknown>
  /** What it was encoded from, as far as the two are alike. */
  readonly given: unknown
  readonly copy: Record<PropertyKey, unknown>
  /** Of an array, none. */
  readonly keys: ReadonlyArray<string> | undefined
  readonly size: number
  index: number
}

/**
 * A copy that holds nothing but data. Each property is read once, so that what is written is what was checked. Without
 * recursion: a payload may be deep.
 */
const plain = (encoded: unknown, given: unknown): unknown => {
  const path: Array<Open> = []
  let members = 0
  const within = new Set<unknown>()
  const refuse = (what: string): never => {
    const at = path.map(({ index, keys }) => `[${keys === undefined ? index - 1 : JSON.stringify(keys[index - 1])}]`)
    const where = at.length === 0 ? "" : `\n  at ${sanitise(at.join(""), maxPathLength)}`
    throw new NotJson({ message: `Expected JSON value, got ${what}${where}` })
  }
  const open = (value: object, given: unknown): unknown => {
    if (within.has(value)) return refuse("what is within itself")
    const isArray = Array.isArray(value)
    if (!isArray && !isPlain(value)) return refuse(nameOf(value))
    const keys = isArray ? undefined : Object.keys(value)
    const size = isArray ? value.length : keys!.length
    const unwritten = unwrittenOf(value, size)
    if (unwritten !== undefined) return refuse(`an ${isArray ? "array" : "object"} with ${unwritten}`)
    if (!isArray && size === 0 && isHollow(given)) return refuse(nameOf(given))
    const copy = (isArray ? [] : {}) as Record<PropertyKey, unknown>
    path.push({
      value: value as Record<PropertyKey, unknown>,
      given: isArray && (given instanceof Map || given instanceof Set) ? Array.from<unknown>(given) : given,
      copy,
      keys,
      size,
      index: 0
    })
    within.add(value)
    return copy
  }
  const take = (value: unknown, given: unknown): unknown => {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value
      case "number":
        return Number.isFinite(value) ? value : refuse(String(value))
      case "object":
        return value === null ? null : open(value, given)
      default:
        return refuse(typeof value === "bigint" ? `${value}n` : typeof value)
    }
  }
  const copy = take(encoded, given)
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    if (top.index === top.size) {
      within.delete(top.value)
      path.pop()
      continue
    }
    const key = top.keys === undefined ? top.index : top.keys[top.index]!
    top.index++
    // A part that several others share is written once for each of them.
    if (++members > maxMembers) refuse(`more than ${maxMembers} members`)
    const value = top.value[key]
    const member = take(value, top.given === top.value ? value : memberOf(top.given, key))
    if (key === "__proto__") Object.defineProperty(top.copy, key, { value: member, enumerable: true })
    else top.copy[key] = member
  }
  return copy
}

/** An object literal's prototype, of whatever realm. The `arguments` of a function have it too. */
const isPlain = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value)
  return (prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null)
    && Object.prototype.toString.call(value) !== "[object Arguments]"
}

/** What `JSON.stringify` would leave out of it, or write in place of it. */
const unwrittenOf = (value: object, size: number): string | undefined => {
  if (typeof (value as { readonly toJSON?: unknown }).toJSON === "function") return "a toJSON of its own"
  const isShown = (key: PropertyKey) => Object.prototype.propertyIsEnumerable.call(value, key)
  const symbol = Object.getOwnPropertySymbols(value).find(isShown)
  if (symbol !== undefined) return `the property ${String(symbol)}`
  if (!Array.isArray(value) || size > maxSearchedLength) return undefined
  const named = Object.keys(value).find((key) => !/^\d+$/.test(key))
  return named === undefined ? undefined : `the property ${JSON.stringify(named)}`
}

/** Whether what it holds is not in its properties, as with a Map, a Date or an Error: a record of it is empty. */
const isHollow = (given: unknown): given is object =>
  typeof given === "object" && given !== null && !Array.isArray(given) && !isPlain(given)
  && Object.keys(given).length === 0 && !Schema.isSchema(given.constructor)

const memberOf = (given: unknown, key: string | number): unknown =>
  typeof given === "object" && given !== null && Object.hasOwn(given, key)
    ? (given as Record<PropertyKey, unknown>)[key]
    : undefined

const nameOf = (value: object): string => {
  const made: unknown = value.constructor
  return typeof made === "function" && made.name !== "" ? `an instance of ${made.name}` : "an object with a prototype"
}

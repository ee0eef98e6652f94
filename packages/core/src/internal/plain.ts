/** Values that hold nothing but what JSON writes. */
import * as Data from "effect/Data"
import * as Limits from "../Limits.ts"
import { sanitise } from "./text.ts"

/** What was to be stored is not JSON: something of it would be lost, and nothing would be said. */
export class NotJson extends Data.TaggedError("NotJson")<{ readonly message: string }> {}

/** Of whatever was thrown: a proxy may refuse to be looked at. */
export const isNotJson = (thrown: unknown): thrown is NotJson => {
  try {
    return thrown instanceof NotJson
  } catch {
    return false
  }
}

/** As much of a path as an error tells. */
const maxPathLength = 1_000

/** The most characters of parts that stand in several places, beyond the first: no broker carries more. */
const maxRepeated = Limits.maxCarriedBytes

/** The longest array that is searched for named properties: to list its keys takes several times as long as to write it. */
const maxSearchedLength = 1_000

/** An object or an array that is being copied, or has been. */
interface Part {
  readonly value: Record<PropertyKey, unknown>
  readonly copy: Record<PropertyKey, unknown>
  /** Of an array, none. */
  readonly keys: ReadonlyArray<string> | undefined
  readonly count: number
  /** The members that have been copied. */
  index: number
  isComplete: boolean
  /** The characters of its text, at least. */
  length: number
}

/**
 * A copy that holds nothing but data. Each property is read once, so that what is written is what was checked, and what stands in
 * several places is copied once. Without recursion: a payload may be deep. Throws `NotJson`, and whatever a getter or
 * a proxy throws.
 */
export const plain = (value: unknown): unknown => {
  if (typeof value === "string" || typeof value === "boolean" || value === null) return value
  const path: Array<Part> = []
  const parts = new Map<unknown, Part>()
  let repeated = 0
  const refuse = (what: string): never => {
    const at = path.map(({ index, keys }) => `[${keys === undefined ? index - 1 : JSON.stringify(keys[index - 1])}]`)
    const where = at.length === 0 ? "" : `\n  at ${sanitise(at.join(""), maxPathLength)}`
    throw new NotJson({ message: `Expected JSON value, got ${what}${where}` })
  }
  const again = (part: Part): unknown => {
    if (!part.isComplete) return refuse("what is within itself")
    repeated += part.length
    if (repeated > maxRepeated) return refuse(`more than ${maxRepeated} characters of what stands in several places`)
    path.at(-1)!.length += part.length
    return part.copy
  }
  const open = (value: object): unknown => {
    const known = parts.get(value)
    if (known !== undefined) return again(known)
    const loss = lossOf(value)
    if (loss !== undefined) return refuse(loss)
    const isArray = Array.isArray(value)
    const keys = isArray ? undefined : Object.keys(value)
    const part: Part = {
      value: value as Record<PropertyKey, unknown>,
      copy: (isArray ? [] : {}) as Record<PropertyKey, unknown>,
      keys,
      count: isArray ? value.length : keys!.length,
      index: 0,
      isComplete: false,
      length: 2
    }
    parts.set(value, part)
    path.push(part)
    return part.copy
  }
  const take = (value: unknown): unknown => {
    switch (typeof value) {
      case "string":
      case "boolean":
        return value
      case "number":
        return Number.isFinite(value) ? value : refuse(String(value))
      case "object":
        return value === null ? null : open(value)
      default:
        return refuse(typeof value === "bigint" ? `${value}n` : typeof value)
    }
  }
  const copy = take(value)
  for (let top = path.at(-1); top !== undefined; top = path.at(-1)) {
    if (top.index === top.count) {
      top.isComplete = true
      path.pop()
      if (path.length > 0) path.at(-1)!.length += top.length
      continue
    }
    const key = top.keys === undefined ? top.index : top.keys[top.index]!
    top.index++
    const found = top.value[key]
    top.length += (typeof key === "string" ? key.length : 0) + (typeof found === "string" ? found.length : 0) + 1
    const member = take(found)
    if (key === "__proto__") Object.defineProperty(top.copy, key, { value: member, enumerable: true })
    else top.copy[key] = member
  }
  return copy
}

/** An object literal's prototype, of whatever realm. The `arguments` of a function have it too. */
const isLiteral = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value)
  return (prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null)
    && Object.prototype.toString.call(value) !== "[object Arguments]"
}

/** Of an object that is no literal, what it is: it may hold what is in none of its properties, as a Map and an Error do. */
export const instanceOf = (value: object): string | undefined => {
  if (isLiteral(value)) return undefined
  const made: unknown = value.constructor
  return typeof made === "function" && made.name !== "" ? `an instance of ${made.name}` : "an object with a prototype"
}

const isShown = (value: object, key: PropertyKey): boolean => Object.prototype.propertyIsEnumerable.call(value, key)

/** A property that is named by a symbol, and meant to be seen. */
export const symbolOf = (value: object): string | undefined => {
  const symbol = Object.getOwnPropertySymbols(value).find((key) => isShown(value, key))
  return symbol === undefined ? undefined : `an object with the property ${String(symbol)}`
}

/** What of an object or an array JSON would leave out, or write something else for. Its members may lose more. */
export const lossOf = (value: object): string | undefined => {
  const isArray = Array.isArray(value)
  const instance = isArray ? undefined : instanceOf(value)
  if (instance !== undefined) return instance
  const what = isArray ? "an array" : "an object"
  if (typeof (value as { readonly toJSON?: unknown }).toJSON === "function") return `${what} with a toJSON of its own`
  const symbol = symbolOf(value)
  if (symbol !== undefined || !isArray || value.length > maxSearchedLength) return symbol
  const named = Object.keys(value).find((key) => !/^\d+$/.test(key))
  return named === undefined ? undefined : `an array with the property ${JSON.stringify(named)}`
}

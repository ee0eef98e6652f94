/** Copies values that JSON can represent completely, and refuses others. */
import * as Data from "effect/Data"
import * as Limits from "../Limits.ts"
import { sanitise } from "./text.ts"

/** The value is not JSON: storing it would lose a part of it without an error. */
export class NotJson extends Data.TaggedError("NotJson")<{
  /** What is wrong, without its position. */
  readonly words: string
  /** The position in the value. Of a very deep one, the outermost parts. */
  readonly path: ReadonlyArray<string | number>
}> {
  override get message() {
    if (this.path.length === 0) return this.words
    const at = this.path.map((part) => `[${JSON.stringify(part)}]`).join("")
    return `${this.words}\n  at ${sanitise(at, maxPathLength)}`
  }
}

/** Takes any thrown value: a proxy may throw on any access. */
export const isNotJson = (thrown: unknown): thrown is NotJson => {
  try {
    return thrown instanceof NotJson
  } catch {
    return false
  }
}

/** The longest path in an error, in characters. */
const maxPathLength = 1_000

/** The most parts of a path that an error keeps. */
const maxPathParts = 100

/**
 * How many characters of parts that occur more than once are copied, not counting the first occurrence. No broker
 * carries more.
 */
const maxRepeated = Limits.maxCarriedBytes

/**
 * The longest array that is searched for named properties. Listing its keys takes several times as long as writing it.
 */
const maxSearchedLength = 1_000

/** An object or an array whose copy is in progress or complete. */
interface Part {
  readonly value: Record<PropertyKey, unknown>
  readonly copy: Record<PropertyKey, unknown>
  /** Undefined for an array. */
  readonly keys: ReadonlyArray<string> | undefined
  /** How many members it has. */
  readonly count: number
  /** How many members have been copied. */
  index: number
  isComplete: boolean
  /** The least number of characters in its text. */
  length: number
}

/**
 * Copies a value to plain data. Each property is read only once, so that the text is written from the values that were
 * checked. A part that occurs more than once is copied once. There is no recursion, because a payload may be deeply
 * nested.
 *
 * Throws `NotJson`, and whatever a getter or a proxy throws.
 */
export const plain = (value: unknown): unknown => {
  if (typeof value === "string" || typeof value === "boolean" || value === null) return value
  const path: Array<Part> = []
  const parts = new Map<unknown, Part>()
  let repeated = 0
  const refuse = (what: string): never => {
    const at = path.slice(0, maxPathParts).map(({ index, keys }) => keys === undefined ? index - 1 : keys[index - 1]!)
    throw new NotJson({ words: `Expected JSON value, got ${what}`, path: at })
  }
  const again = (part: Part): unknown => {
    if (!part.isComplete) return refuse("a value that contains itself")
    repeated += part.length
    if (repeated > maxRepeated) return refuse(`more than ${maxRepeated} characters in parts that occur more than once`)
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

/** Whether the value is an object literal, of any realm. The `arguments` of a function have the same prototype. */
const isLiteral = (value: object): boolean => {
  const prototype = Object.getPrototypeOf(value)
  return (prototype === null || prototype === Object.prototype || Object.getPrototypeOf(prototype) === null)
    && Object.prototype.toString.call(value) !== "[object Arguments]"
}

/** Describes an object that is not a literal: like a Map or an Error, it may hold more than its properties show. */
export const instanceOf = (value: object): string | undefined => {
  if (isLiteral(value)) return undefined
  const made: unknown = value.constructor
  return typeof made === "function" && made.name !== "" ? `an instance of ${made.name}` : "an object with a prototype"
}

const isShown = (value: object, key: PropertyKey): boolean => Object.prototype.propertyIsEnumerable.call(value, key)

/** Describes an object with an enumerable property whose key is a symbol. */
export const symbolOf = (value: object): string | undefined => {
  const symbol = Object.getOwnPropertySymbols(value).find((key) => isShown(value, key))
  return symbol === undefined ? undefined : `an object with the property ${String(symbol)}`
}

/** Describes what JSON would leave out of an object or an array, or write differently. Members are not checked. */
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

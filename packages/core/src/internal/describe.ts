/**
 * Describes thrown values: in one sentence, and in full with the stacks.
 *
 * Thrown values come from the handler's own code. A name or a message may be missing, may not be a string, or may throw
 * when it is read; causes may form a circle; and fields may refer to half the program. So everything is bounded, and
 * nothing here throws.
 */
import * as Redactable from "effect/Redactable"
import { sanitise } from "./text.ts"

/** How many errors one failure reports: itself, and the ones behind it. */
const maxErrors = 10

/** How many characters the fields of one error may take, or a value that is not an error. */
const maxFieldsLength = 1_024

/** How many levels of fields are shown. */
const maxDepth = 3

/** How many entries of one object or array are shown. */
const maxEntries = 20

/** How many characters of one string in a field are shown. */
const maxTextLength = 256

/** The longest name of an error, in characters. */
const maxNameLength = 200

/** How many properties of one object are searched for errors. */
const maxSearched = 100

/** How many errors are followed on the way to the root. */
const maxChain = 1_000

/**
 * How many values an object may contain to be shown by its own `toString`. It may visit all of them, and shared ones
 * once for each reference.
 */
const maxHeld = 100

/** How many characters of a stack are read. */
const maxReadLength = 100_000

export interface Description {
  /** The error's name. */
  readonly name: string
  /** The message and the fields, then the errors behind it in parentheses. */
  readonly detail: string
  /** The name and detail of each error, with its stack frames. */
  readonly stack: string
}

/** Describes a failure with one thrown value, or with several, the main one first. */
export const describe = (
  failures: ReadonlyArray<{
    readonly thrown: unknown
    /** Adds to the stack what is known about where it was thrown. */
    readonly located?: (stack: string) => string
  }>,
  limits: { readonly maxDetailLength: number; readonly maxStackLength: number }
): Description => {
  const budget: Budget = { left: maxErrors, seen: new Set() }
  const [main, ...others] = failures
  const told = tell(main?.thrown, budget, main?.located)
  for (const { located, thrown } of others) {
    if (budget.left > 0 && !budget.seen.has(thrown)) {
      told.behind.push({ as: "beside", told: tell(thrown, budget, located) })
    }
  }
  // Each error gets an equal share, so that a long one at the top leaves room for the ones behind it.
  const count = maxErrors - budget.left
  const detail = detailOf(told, Math.floor(limits.maxDetailLength / count))
  const stack = stackLines(told, Math.floor(limits.maxStackLength / count)).join("\n")
  return {
    name: told.name,
    detail: sanitise(detail, limits.maxDetailLength),
    stack: sanitise(stack, limits.maxStackLength)
  }
}

/** One error, and the errors behind it. */
interface Told {
  readonly name: string
  /** The message and the fields. */
  readonly words: string
  readonly frames: ReadonlyArray<string>
  /** Each with its relation to this one: `cause`, `errors 0`, or the name of a field. */
  readonly behind: Array<{ readonly as: string; readonly told: Told }>
}

/** How many characters are added around the text of an error that is behind another. */
const bracketsLength = 20

const detailOf = (told: Told, share: number): string => {
  const behind = told.behind.map(({ as, told }) => ` (${as}: ${headed(told.name, detailOf(told, share))})`)
  return sanitise(told.words, Math.max(share - told.name.length - bracketsLength, bracketsLength)) + behind.join("")
}

const headed = (name: string, words: string): string => words === "" ? name : `${name}: ${words}`

const stackLines = (told: Told, share: number): ReadonlyArray<string> => [
  ...sanitise([headed(told.name, told.words), ...told.frames].join("\n"), share).split("\n"),
  ...told.behind.flatMap(({ as, told }) => {
    const [head, ...rest] = stackLines(told, share)
    return [`  [${as}]: ${head}`, ...rest.map((line) => `  ${line}`)]
  })
]

interface Budget {
  left: number
  readonly seen: Set<unknown>
}

/** A proxy may throw on any access. The readable parts are reported anyway. */
const orElse = <A>(read: () => A, otherwise: A): A => {
  try {
    return read()
  } catch {
    return otherwise
  }
}

const tell = (thrown: unknown, budget: Budget, located?: (stack: string) => string): Told => {
  budget.left--
  const frames = orElse(() => framesOf(thrown, located), [])
  if (!isObject(thrown)) {
    const words = typeof thrown === "string" ? thrown : orElse(() => format(thrown), undescribed)
    return { name: "Error", words, frames, behind: [] }
  }
  budget.seen.add(thrown)
  const told: Told = {
    name: orElse(() => nameOf(thrown), "Error"),
    words: orElse(() => wordsOf(thrown), messageOf(thrown)),
    frames,
    behind: []
  }
  orElse(() => tellBehind(thrown, told, budget), undefined)
  return told
}

const messageOf = (thrown: object): string => {
  const message = get(thrown, "message")
  return typeof message === "string" ? message : undescribed
}

const undescribed = "<it cannot be described>"

const tellBehind = (thrown: object, told: Told, budget: Budget): void => {
  for (const [as, other] of behindOf(thrown, told.name)) {
    if (budget.left === 0) return
    if (budget.seen.has(other)) continue
    // The last reported error is the root, because it is the most informative one.
    const last = budget.left === 1 ? rootOf(other) : other
    const root = budget.seen.has(last) ? other : last
    told.behind.push({ as: root === other ? as : `root ${as}`, told: tell(root, budget) })
  }
}

/** The errors behind it, the most likely cause first, each with its relation to this one. */
function* behindOf(thrown: object, name: string): Iterable<readonly [as: string, other: unknown]> {
  for (const link of linksOf(name)) {
    const linked = get(thrown, link)
    if (linked !== undefined && linked !== null) yield [link, linked]
  }
  for (const [key, error] of groupOf(get(thrown, "errors"))) {
    if (error !== undefined && error !== null) yield [`errors ${key}`, error]
  }
  // Errors are reported wherever they are found. SuppressedError keeps its errors in properties that are not
  // enumerable.
  for (const key of namesOf(thrown)) {
    const value = get(thrown, key)
    if (isError(value)) yield [sanitise(key, maxNameLength), value]
  }
}

/** The properties that are searched for errors. All keys of an array or of bytes would be too many. */
const namesOf = (thrown: object): ReadonlyArray<string> => {
  if (ArrayBuffer.isView(thrown)) return []
  if (isArray(thrown)) return thrown.slice(0, maxSearched).map((_, index) => String(index))
  return Object.getOwnPropertyNames(thrown).slice(0, maxSearched)
}

/** The properties that hold an earlier thrown value. */
const linksOf = (name: string): ReadonlyArray<string> =>
  name === "SuppressedError" ? ["cause", "error", "suppressed"] : ["cause"]

/** The contents of `errors`: any values in a list, or errors under the names of the items that they concern. */
const groupOf = (errors: unknown): ReadonlyArray<readonly [key: string, error: unknown]> => {
  // Only the first existing entries: the array may have holes, and may be long.
  if (isArray(errors)) {
    const keys = errors.length > maxSearched ? Object.keys(errors.slice(0, maxSearched)) : Object.keys(errors)
    return keys.slice(0, maxErrors).map((key) => [key, get(errors, key)])
  }
  if (!isObject(errors)) return []
  const named = Object.keys(errors).slice(0, maxSearched).map((key) => [key, get(errors, key)] as const)
  return named.filter(([, error]) => isError(error)).map(([key, error]) => [sanitise(key, maxNameLength), error])
}

/** Follows the first error behind each one, to the root. */
const rootOf = (thrown: unknown): unknown => {
  const passed = new Set<unknown>()
  let root = thrown
  while (isObject(root) && passed.size < maxChain) {
    passed.add(root)
    const behind = firstOf(behindOf(root, nameOf(root)))
    if (behind === undefined || passed.has(behind[1])) break
    root = behind[1]
  }
  return root
}

const firstOf = <A>(all: Iterable<A>): A | undefined => {
  for (const one of all) return one
  return undefined
}

const isObject = (u: unknown): u is object => typeof u === "object" && u !== null

/** Both access their argument, and a proxy may throw then. */
const isError = (u: unknown): u is Error =>
  safely(() => u instanceof Error || Object.prototype.toString.call(u) === "[object Error]")
const isArray = (u: unknown): u is ReadonlyArray<unknown> => safely(() => Array.isArray(u))

const safely = (holds: () => boolean): boolean => {
  try {
    return holds()
  } catch {
    return false
  }
}

const threw = Symbol()

/** Reads a property. Returns `threw` if that throws. */
const look = (of: object, key: PropertyKey): unknown => {
  try {
    return (of as Record<PropertyKey, unknown>)[key]
  } catch {
    return threw
  }
}

const get = (of: object, key: PropertyKey): unknown => {
  const value = look(of, key)
  return value === threw ? undefined : value
}

const nameOf = (thrown: object): string => {
  // In a tagged error `name` may be a field, such as the name of a user.
  for (const own of [get(thrown, "_tag"), get(thrown, "name")]) {
    if (typeof own === "string" && own !== "") return sanitise(own, maxNameLength)
  }
  const made = get(thrown, "constructor")
  return typeof made === "function" && made.name !== "" ? sanitise(made.name, maxNameLength) : "Error"
}

const wordsOf = (thrown: object): string => {
  const message = look(thrown, "message")
  if (message === undefined && !isError(thrown)) return isPlain(thrown) ? fields(thrown, "{}") : format(thrown)
  const words = message === threw
    ? "<its message cannot be read>"
    : typeof message === "string"
    ? message
    : message === undefined
    ? ""
    : format(message)
  const shown = fields(thrown, "")
  return words === "" ? shown : shown === "" ? words : `${words} ${shown}`
}

const isPlain = (u: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(u)
  return prototype === null || prototype === Object.prototype
}

/** The fields that are not reported elsewhere. */
const fields = (thrown: object, none: string): string => {
  const name = nameOf(thrown)
  const shown = name === "SchemaError"
    // The message already contains the whole issue.
    ? []
    : Object.keys(thrown).slice(0, maxSearched).filter((key) => !isSaid(thrown, key, name) && isShown(thrown, key))
  return shown.length === 0 ? none : new Writer().entries(thrown, shown, 1).text
}

/**
 * Whether the field is already reported as the name, the message, the frames or an error behind it, or is a marker of
 * Effect's.
 */
const isSaid = (thrown: object, key: string, name: string): boolean => {
  if (key === "message" || key === "stack" || key === "cause" || isMark(key)) return true
  if (key === "name" || key === "_tag") return get(thrown, key) === name
  return key === "errors" && groupOf(get(thrown, key)).length > 0
}

const isMark = (key: PropertyKey): boolean => typeof key === "string" && key.startsWith("~effect/")

/**
 * Fields of tagged errors, and of values that are not errors, are data that somebody chose to report. Other errors may
 * hold whole requests and their secrets, so only their fields that are not objects are shown.
 */
const isShown = (thrown: object, key: string): boolean => {
  const value = get(thrown, key)
  if (isError(value)) return false
  if (!isError(thrown) || typeof get(thrown, "_tag") === "string") return true
  return !isObject(value) && typeof value !== "function"
}

// Frames of the Effect runtime. The handler's own frames come before them.
const inside = /Generator\.next|~effect\/(?:Effect|Utils)/

const framesOf = (thrown: unknown, located: (stack: string) => string = (stack) => stack): ReadonlyArray<string> => {
  const own = isObject(thrown) ? get(thrown, "stack") : undefined
  const stack = located(typeof own === "string" ? own.slice(0, maxReadLength) : "")
  const lines = stack.split("\n").filter((line) => /^\s+at /.test(line))
  const end = lines.findIndex((line) => inside.test(line))
  return end < 0 ? lines : lines.slice(0, end)
}

/** The object's own `toString`, if it has one. */
const ownWordsOf = (u: object): Function | undefined => {
  const toString = get(u, "toString")
  return typeof toString === "function" && toString !== Object.prototype.toString ? toString : undefined
}

/** Names of values that are not reported, such as the header `authorization`. */
const secret = /auth(?!or(?!i[sz]))|cookie|credential|jwt|passw|passphrase|private|pwd|secret|token|api.?key/i

const isSecret = (name: unknown, value: unknown): boolean =>
  typeof name === "string" && secret.test(name) && (typeof value === "string" || isObject(value))

/** Whether the object is small and has no secret in it, so that its own `toString` may be called. */
const isModest = (u: object): boolean => {
  let left = maxHeld
  const isFine = (name: unknown, value: unknown): boolean => {
    if (left-- === 0 || isSecret(name, value)) return false
    if (!isObject(value) || Redactable.isRedactable(value) || ArrayBuffer.isView(value)) return true
    if (isCollection(value)) return firstEntries(value).every((entry) => isFine(...pairOf(entry)))
    return Object.keys(value).every((key) => isFine(key, get(value, key)))
  }
  return isFine(undefined, u)
}

/**
 * Whether the object is a Map, a Set or a similar collection, such as the headers of a response. An iterator is not a
 * collection, because reading it would use it up. An Effect that can be yielded yields itself, so it is not one either.
 */
const isCollection = (u: object): u is Iterable<unknown> => {
  if (isArray(u) || typeof get(u, Symbol.iterator) !== "function" || typeof get(u, "next") === "function") return false
  return typeof get(u, "entries") === "function" || !firstEntries(u as Iterable<unknown>).includes(u)
}

const firstEntries = (collection: Iterable<unknown>): ReadonlyArray<unknown> => {
  const entries: Array<unknown> = []
  for (const entry of collection) if (entries.push(entry) > maxEntries) break
  return entries
}

/** The name and the value of an entry of a collection. Entries of a Set have no name. */
const pairOf = (entry: unknown): readonly [name: unknown, value: unknown] =>
  isArray(entry) && entry.length === 2 ? [entry[0], entry[1]] : [undefined, entry]

const entriesOf = (collection: Iterable<unknown>): ReadonlyArray<unknown> => firstEntries(collection).map(withoutSecret)

const withoutSecret = (entry: unknown): unknown => {
  const [name, value] = pairOf(entry)
  return isSecret(name, value) ? [name, redacted] : entry
}

const redacted = "<redacted>"

/** The getters of an object without fields, such as a response, whose values are not objects. */
const gettersOf = (u: object): ReadonlyArray<string> => {
  const found: Array<string> = []
  for (const [key, { get: getter }] of Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(u)))) {
    if (getter === undefined || secret.test(key)) continue
    const value = get(u, key)
    if (value !== undefined && !isObject(value) && typeof value !== "function") found.push(key)
  }
  return found
}

const format = (u: unknown): string => new Writer().value(u, 0).text

/** Describes a class or another function by its name. */
const functionName = (u: Function): string => {
  const kind = /^class\b/.test(Function.prototype.toString.call(u)) ? "class" : "function"
  const name = get(u, "name")
  return typeof name === "string" && name !== "" ? `[${kind} ${sanitise(name, maxNameLength)}]` : `[${kind}]`
}

/** Writes values much like JSON, until the text is long enough. */
class Writer {
  text = ""
  private readonly ancestors = new Set<object>()

  private get isFull(): boolean {
    return this.text.length > maxFieldsLength
  }

  private write(text: string): this {
    if (!this.isFull) this.text = sanitise(this.text + text, maxFieldsLength + 1)
    return this
  }

  value(u: unknown, depth: number): this {
    try {
      return this.isFull ? this : this.valueUnsafe(Redactable.redact(u), depth)
    } catch {
      return this.write("[threw]")
    }
  }

  private valueUnsafe(u: unknown, depth: number): this {
    if (typeof u === "string") return this.write(JSON.stringify(sanitise(u, maxTextLength)))
    if (typeof u === "bigint") return this.write(`${u}n`)
    if (typeof u === "function") return this.write(functionName(u))
    if (!isObject(u)) return this.write(String(u))
    if (this.ancestors.has(u)) return this.write("[circular]")
    if (u instanceof Date) return this.write(Number.isNaN(u.getTime()) ? "Invalid Date" : `"${u.toISOString()}"`)
    if (ArrayBuffer.isView(u)) return this.write(`[${u.byteLength} bytes]`)
    if (isError(u)) {
      const message = get(u, "message")
      return this.write(headed(nameOf(u), typeof message === "string" ? sanitise(message, maxTextLength) : ""))
    }
    if (isArray(u)) return this.nested(u, u.slice(0, maxEntries + 1).keys(), depth)
    const ownWords = ownWordsOf(u)
    if (ownWords !== undefined && isModest(u)) return this.write(sanitise(String(ownWords.call(u)), maxTextLength))
    if (isCollection(u)) return this.write(nameOf(u)).value(entriesOf(u), depth)
    const keys = Object.keys(u).filter((key) => !isMark(key))
    if (isPlain(u)) return this.nested(u, keys, depth)
    if (ownWords !== undefined) this.write(nameOf(u))
    return keys.length > 0 ? this.nested(u, keys, depth) : this.write(nameOf(u)).nested(u, gettersOf(u), depth)
  }

  private nested(of: object, keys: Iterable<PropertyKey>, depth: number): this {
    return depth < maxDepth ? this.entries(of, keys, depth + 1) : this.write(isArray(of) ? "[…]" : "{…}")
  }

  entries(of: object, keys: Iterable<PropertyKey>, depth: number): this {
    const array = isArray(of)
    this.ancestors.add(of)
    this.write(array ? "[" : "{")
    let written = 0
    for (const key of keys) {
      if (this.isFull) break
      if (written > 0) this.write(",")
      if (written++ === maxEntries) {
        this.write("…")
        break
      }
      if (!array) this.write(`${JSON.stringify(sanitise(String(key), maxTextLength))}:`)
      const value = look(of, key)
      if (value === threw) this.write("[threw]")
      else if (!array && isSecret(key, value)) this.write(redacted)
      // Lists of pairs are how headers are given too.
      else this.value(array ? orElse(() => withoutSecret(value), value) : value, depth)
    }
    this.write(array ? "]" : "}")
    this.ancestors.delete(of)
    return this
  }
}

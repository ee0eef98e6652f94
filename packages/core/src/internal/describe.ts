/**
 * What something that was thrown says: in a sentence, and at length with the stacks.
 *
 * Whatever it is, the handler's own code made it: a name or a message may be missing, be no text or throw when it is
 * looked at, causes may go round in a circle and fields may hold half a program. All of it is bounded, and none of it throws.
 */
import * as Redactable from "effect/Redactable"
import { sanitise } from "./text.ts"

/** The most errors that are told of one failure: itself, and what is behind it. */
const maxErrors = 10

/** The most characters of the fields of one error, or of a value that is no error. */
const maxFieldsLength = 1_024

/** How deep fields are looked into. */
const maxDepth = 3

/** The most entries that are shown of one object or array. */
const maxEntries = 20

/** The most characters of one text in a field. */
const maxTextLength = 256

/** The longest name of an error. */
const maxNameLength = 200

/** In how many properties of one object errors are looked for. */
const maxSearched = 100

/** How many errors are followed to the root. */
const maxChain = 1_000

/**
 * The most values that something may hold, to be asked for words of its own: it may look at all of them, and at those that
 * are shared each time.
 */
const maxHeld = 100

/** How far a stack is read. */
const maxReadLength = 100_000

export interface Description {
  readonly name: string
  /** The message, the fields, and in brackets what is behind them. */
  readonly detail: string
  /** Name and detail of each, with its frames. */
  readonly stack: string
}

/** Describes a failure by what was thrown: one value, or several side by side, the main one first. */
export const describe = (
  failures: ReadonlyArray<{
    readonly thrown: unknown
    /** Adds to its stack what somebody knows of where it happened. */
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
  // Each gets its share, so that what is long at the top leaves room for what is behind it.
  const count = maxErrors - budget.left
  const detail = detailOf(told, Math.floor(limits.maxDetailLength / count))
  const stack = stackLines(told, Math.floor(limits.maxStackLength / count)).join("\n")
  return {
    name: told.name,
    detail: sanitise(detail, limits.maxDetailLength),
    stack: sanitise(stack, limits.maxStackLength)
  }
}

/** One error, and what is behind it. */
interface Told {
  readonly name: string
  /** The message and the fields. */
  readonly words: string
  readonly frames: ReadonlyArray<string>
  /** Each with what it is to this one: `cause`, `errors 0`, the name of a field. */
  readonly behind: Array<{ readonly as: string; readonly told: Told }>
}

/** What stands around the words of one that is behind another. */
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

/** A proxy may throw wherever it is touched: what can be told of the rest is told. */
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
    // The last one that is told is the root, for that says most.
    const last = budget.left === 1 ? rootOf(other) : other
    const root = budget.seen.has(last) ? other : last
    told.behind.push({ as: root === other ? as : `root ${as}`, told: tell(root, budget) })
  }
}

/** What is behind it, the likeliest first, each with what it is to this one. */
function* behindOf(thrown: object, name: string): Iterable<readonly [as: string, other: unknown]> {
  for (const link of linksOf(name)) {
    const linked = get(thrown, link)
    if (linked !== undefined && linked !== null) yield [link, linked]
  }
  for (const [key, error] of groupOf(get(thrown, "errors"))) {
    if (error !== undefined && error !== null) yield [`errors ${key}`, error]
  }
  // Errors are told wherever they are found. SuppressedError has its own where no loop finds them.
  for (const key of namesOf(thrown)) {
    const value = get(thrown, key)
    if (isError(value)) yield [sanitise(key, maxNameLength), value]
  }
}

/** Where errors are looked for. All keys of an array, or of bytes, would be too many. */
const namesOf = (thrown: object): ReadonlyArray<string> => {
  if (ArrayBuffer.isView(thrown)) return []
  if (isArray(thrown)) return thrown.slice(0, maxSearched).map((_, index) => String(index))
  return Object.getOwnPropertyNames(thrown).slice(0, maxSearched)
}

/** The properties that hold whatever was thrown before. */
const linksOf = (name: string): ReadonlyArray<string> =>
  name === "SuppressedError" ? ["cause", "error", "suppressed"] : ["cause"]

/** What stands in `errors`: anything in a list, and errors by the name of what they are about. */
const groupOf = (errors: unknown): ReadonlyArray<readonly [key: string, error: unknown]> => {
  // The first of those that are there: it may have holes, and be long.
  if (isArray(errors)) {
    const keys = errors.length > maxSearched ? Object.keys(errors.slice(0, maxSearched)) : Object.keys(errors)
    return keys.slice(0, maxErrors).map((key) => [key, get(errors, key)])
  }
  if (!isObject(errors)) return []
  const named = Object.keys(errors).slice(0, maxSearched).map((key) => [key, get(errors, key)] as const)
  return named.filter(([, error]) => isError(error)).map(([key, error]) => [sanitise(key, maxNameLength), error])
}

/** What is behind this one in the end: the first that is behind each. */
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

/** Both of these look at what they are given, which a proxy may refuse. */
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

/** A property, or `threw`. */
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
  // The name may be a field of a tagged error, as that of a user.
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

/** The fields that are not told elsewhere. */
const fields = (thrown: object, none: string): string => {
  const name = nameOf(thrown)
  const shown = name === "SchemaError"
    // Its message tells all of its issue.
    ? []
    : Object.keys(thrown).slice(0, maxSearched).filter((key) => !isSaid(thrown, key, name) && isShown(thrown, key))
  return shown.length === 0 ? none : new Writer().entries(thrown, shown, 1).text
}

/** Whether the name, the message, the frames or what is behind it say it; or it is a mark that Effect has put there. */
const isSaid = (thrown: object, key: string, name: string): boolean => {
  if (key === "message" || key === "stack" || key === "cause" || isMark(key)) return true
  if (key === "name" || key === "_tag") return get(thrown, key) === name
  return key === "errors" && groupOf(get(thrown, key)).length > 0
}

const isMark = (key: PropertyKey): boolean => typeof key === "string" && key.startsWith("~effect/")

/**
 * The fields of a tagged error, and of what is no error, are data that somebody chose to tell. Others may hold whole
 * requests, with what is secret in them: of those only what is no object is shown.
 */
const isShown = (thrown: object, key: string): boolean => {
  const value = get(thrown, key)
  if (isError(value)) return false
  if (!isError(thrown) || typeof get(thrown, "_tag") === "string") return true
  return !isObject(value) && typeof value !== "function"
}

// Where the runtime itself takes over: the handler's own frames come before.
const inside = /Generator\.next|~effect\/(?:Effect|Utils)/

const framesOf = (thrown: unknown, located: (stack: string) => string = (stack) => stack): ReadonlyArray<string> => {
  const own = isObject(thrown) ? get(thrown, "stack") : undefined
  const stack = located(typeof own === "string" ? own.slice(0, maxReadLength) : "")
  const lines = stack.split("\n").filter((line) => /^\s+at /.test(line))
  const end = lines.findIndex((line) => inside.test(line))
  return end < 0 ? lines : lines.slice(0, end)
}

/** What it says of itself with, where it is made to. */
const ownWordsOf = (u: object): Function | undefined => {
  const toString = get(u, "toString")
  return typeof toString === "function" && toString !== Object.prototype.toString ? toString : undefined
}

/** Names of what is not told, as of the header `authorization`. */
const secret = /auth(?!or(?!i[sz]))|cookie|credential|jwt|passw|passphrase|private|pwd|secret|token|api.?key/i

const isSecret = (name: unknown, value: unknown): boolean =>
  typeof name === "string" && secret.test(name) && (typeof value === "string" || isObject(value))

/** Whether it holds so little, and nothing by a secret's name, that it may say all of it in its own words. */
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
 * A Map, a Set, or what is made like them, as the headers of a response. An iterator has no entries: to read it would use it
 * up. What Effect can yield gives itself.
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

/** The name that an entry of a collection has, and what stands under it. */
const pairOf = (entry: unknown): readonly [name: unknown, value: unknown] =>
  isArray(entry) && entry.length === 2 ? [entry[0], entry[1]] : [undefined, entry]

const entriesOf = (collection: Iterable<unknown>): ReadonlyArray<unknown> => firstEntries(collection).map(withoutSecret)

const withoutSecret = (entry: unknown): unknown => {
  const [name, value] = pairOf(entry)
  return isSecret(name, value) ? [name, redacted] : entry
}

const redacted = "<redacted>"

/** What an object tells that has no fields, as a response does: what its getters give and is no object. */
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

/** A class or another function, by its name. */
const functionName = (u: Function): string => {
  const kind = /^class\b/.test(Function.prototype.toString.call(u)) ? "class" : "function"
  const name = get(u, "name")
  return typeof name === "string" && name !== "" ? `[${kind} ${sanitise(name, maxNameLength)}]` : `[${kind}]`
}

/** Writes values much as JSON does, until there is enough of it. */
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

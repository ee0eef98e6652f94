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

/** How many causes are followed to the root. */
const maxChain = 1_000

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
    const words = typeof thrown === "string" ? thrown : orElse(() => format(thrown), "<it cannot be described>")
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
  return typeof message === "string" ? message : "<it cannot be described>"
}

const tellBehind = (thrown: object, told: Told, budget: Budget): void => {
  const behind = (as: string, other: unknown): void => {
    if (other === undefined || other === null || budget.seen.has(other)) return
    // The last one that is told is the root, for that says most.
    const last = budget.left === 1 ? rootOf(other) : other
    const root = budget.seen.has(last) ? other : last
    if (budget.left > 0) told.behind.push({ as: root === other ? as : `root ${as}`, told: tell(root, budget) })
  }
  for (const link of linksOf(told.name)) behind(link, get(thrown, link))
  for (const [key, error] of groupOf(get(thrown, "errors"))) behind(`errors ${key}`, error)
  // Errors are told wherever they are found. SuppressedError has its own where no loop finds them.
  for (const key of namesOf(thrown)) {
    const value = get(thrown, key)
    if (isError(value)) behind(sanitise(key, maxNameLength), value)
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

/** The last of the causes that are behind this one. */
const rootOf = (thrown: unknown): unknown => {
  let root = thrown
  for (let step = 0; step < maxChain && isObject(root); step++) {
    const cause = get(root, "cause")
    if (cause === undefined || cause === null) break
    root = cause
  }
  return root
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
    : Object.keys(thrown).filter((key) => !isSaid(thrown, key, name) && isShown(thrown, key))
  return shown.length === 0 ? none : new Writer().entries(thrown, shown, 1).text
}

/** Whether the name, the message, the frames or what is behind it say it; or it is a mark that Effect has put there. */
const isSaid = (thrown: object, key: string, name: string): boolean => {
  if (key === "message" || key === "stack" || key === "cause" || key.startsWith("~effect/")) return true
  if (key === "name" || key === "_tag") return get(thrown, key) === name
  return key === "errors" && groupOf(get(thrown, key)).length > 0
}

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

/** What an object says of itself, where it is made to. */
const ownWords = (u: object): string | undefined => {
  const { toString } = u as { readonly toString: unknown }
  if (typeof toString !== "function" || toString === Object.prototype.toString) return undefined
  const words: unknown = toString.call(u)
  return typeof words === "string" ? words : undefined
}

/** A Map, a Set, or what is made like them, as the headers of a response. An iterator has no entries: to read it would use it up. */
const isCollection = (u: object): u is Iterable<unknown> =>
  !isArray(u) && typeof get(u, "entries") === "function" && typeof get(u, Symbol.iterator) === "function"

/** Names of what is not told, as of the header `authorization`. */
const secret = /auth|cookie|credential|passw|private|secret|token|api.?key/i

const entriesOf = (collection: Iterable<unknown>): ReadonlyArray<unknown> => {
  const entries: Array<unknown> = []
  for (const entry of collection) {
    const isSecret = isArray(entry) && entry.length === 2 && typeof entry[0] === "string" && secret.test(entry[0])
    if (entries.push(isSecret ? [entry[0], "<redacted>"] : entry) > maxEntries) break
  }
  return entries
}

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

/** Writes values much as JSON does, until there is enough of it. */
class Writer {
  text = ""
  private readonly ancestors = new Set<object>()

  private write(text: string): this {
    if (this.text.length <= maxFieldsLength) this.text = sanitise(this.text + text, maxFieldsLength + 1)
    return this
  }

  value(u: unknown, depth: number): this {
    try {
      return this.valueUnsafe(Redactable.redact(u), depth)
    } catch {
      return this.write("[threw]")
    }
  }

  private valueUnsafe(u: unknown, depth: number): this {
    if (typeof u === "string") return this.write(JSON.stringify(sanitise(u, maxTextLength)))
    if (typeof u === "bigint") return this.write(`${u}n`)
    if (typeof u === "function") return this.write("[function]")
    if (!isObject(u)) return this.write(String(u))
    if (this.ancestors.has(u)) return this.write("[circular]")
    if (u instanceof Date) return this.write(Number.isNaN(u.getTime()) ? "Invalid Date" : `"${u.toISOString()}"`)
    if (ArrayBuffer.isView(u)) return this.write(`[${u.byteLength} bytes]`)
    if (isCollection(u)) return this.write(nameOf(u)).value(entriesOf(u), depth)
    if (isError(u)) {
      const message = get(u, "message")
      return this.write(headed(nameOf(u), typeof message === "string" ? sanitise(message, maxTextLength) : ""))
    }
    if (isArray(u)) return this.nested(u, u.slice(0, maxEntries + 1).keys(), depth)
    const own = ownWords(u)
    if (own !== undefined) return this.write(sanitise(own, maxTextLength))
    const keys = Object.keys(u)
    return keys.length > 0 || isPlain(u)
      ? this.nested(u, keys, depth)
      : this.write(nameOf(u)).nested(u, gettersOf(u), depth)
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
      if (written > 0) this.write(",")
      if (written++ === maxEntries) {
        this.write("…")
        break
      }
      if (!array) this.write(`${JSON.stringify(sanitise(String(key), maxTextLength))}:`)
      const value = look(of, key)
      if (value === threw) this.write("[threw]")
      else this.value(value, depth)
    }
    this.write(array ? "]" : "}")
    this.ancestors.delete(of)
    return this
  }
}

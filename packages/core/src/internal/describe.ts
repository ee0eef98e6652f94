/**
 * What something that was thrown says: in a sentence, and at length with the stacks.
 *
 * Whatever it is, the handler's own code made it: a name or a message may be missing, be no text or throw when it is
 * looked at, causes may go round in a circle and fields may hold half a program. All of it is bounded, and none of it throws.
 */
import * as Redactable from "effect/Redactable"
import * as Schema from "effect/Schema"
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

const tell = (thrown: unknown, budget: Budget, located?: (stack: string) => string): Told => {
  budget.left--
  try {
    return tellUnsafe(thrown, budget, located)
  } catch {
    // A proxy may throw wherever it is touched.
    return { name: "Error", words: "<it cannot be described>", frames: [], behind: [] }
  }
}

const tellUnsafe = (thrown: unknown, budget: Budget, located?: (stack: string) => string): Told => {
  const frames = framesOf(thrown, located)
  if (!isObject(thrown)) {
    return { name: "Error", words: typeof thrown === "string" ? thrown : format(thrown), frames, behind: [] }
  }
  budget.seen.add(thrown)
  const told: Told = { name: nameOf(thrown), words: wordsOf(thrown), frames, behind: [] }
  const behind = (as: string, other: unknown): void => {
    if (other === undefined || other === null || budget.seen.has(other)) return
    // The last one that is told is the root, for that says most.
    const last = budget.left === 1 ? rootOf(other) : other
    const root = budget.seen.has(last) ? other : last
    if (budget.left > 0) told.behind.push({ as: root === other ? as : `root ${as}`, told: tell(root, budget) })
  }
  behind("cause", get(thrown, "cause"))
  if (!isError(thrown)) return told
  const errors = get(thrown, "errors")
  if (isArray(errors)) errors.slice(0, maxErrors).forEach((error, index) => behind(`errors ${index}`, error))
  for (const key of fieldsOf(thrown)) {
    const value = get(thrown, key)
    if (isError(value)) behind(sanitise(key, maxNameLength), value)
  }
  return told
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
  const tag = get(thrown, "_tag")
  const name = get(thrown, "name")
  const own = typeof name === "string" && (name !== "Error" || typeof tag !== "string") ? name : tag
  if (typeof own === "string" && own !== "") return sanitise(own, maxNameLength)
  const made = get(thrown, "constructor")
  return typeof made === "function" && made.name !== "" ? sanitise(made.name, maxNameLength) : "Error"
}

const wordsOf = (thrown: object): string => {
  const message = look(thrown, "message")
  if (message === undefined && !isError(thrown)) return format(thrown)
  const words = message === threw
    ? "<its message cannot be read>"
    : typeof message === "string"
    ? message
    : message === undefined
    ? ""
    : format(message)
  const shown = fieldsOf(thrown).filter((key) => isShown(thrown, key))
  const fields = shown.length === 0 ? "" : new Writer().entries(thrown, shown, 1).text
  return words === "" ? fields : fields === "" ? words : `${words} ${fields}`
}

/** What an error says elsewhere, and not among its fields. */
const said = new Set(["name", "message", "stack", "cause", "errors", "_tag"])

// A SchemaError's message tells all of its issue.
const fieldsOf = (thrown: object): ReadonlyArray<string> =>
  Schema.isSchemaError(thrown) ? [] : Object.keys(thrown).filter((key) => !said.has(key))

/**
 * The fields of a tagged error, and of what is no error, are data that somebody chose to tell. Others may hold whole
 * requests, with what is secret in them: of those only what is no object is shown.
 */
const isShown = (thrown: object, key: string): boolean => {
  const value = get(thrown, key)
  if (!isError(thrown)) return true
  if (isError(value)) return false
  return typeof get(thrown, "_tag") === "string" || (!isObject(value) && typeof value !== "function")
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
    if (u instanceof Map || u instanceof Set) return this.write(`[${nameOf(u)} of ${u.size}]`)
    if (isError(u)) {
      const message = get(u, "message")
      return this.write(headed(nameOf(u), typeof message === "string" ? sanitise(message, maxTextLength) : ""))
    }
    if (isArray(u)) return this.nested(u, u.slice(0, maxEntries + 1).keys(), depth)
    const own = ownWords(u)
    if (own !== undefined) return this.write(sanitise(own, maxTextLength))
    return this.nested(u, Object.keys(u), depth)
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

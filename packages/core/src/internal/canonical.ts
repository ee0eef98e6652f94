/**
 * The canonical JSON by which two payloads under one idempotency key are compared.
 *
 * Keys of objects are sorted at every depth. So are the members of arrays that, by the payload's Schema, are Maps or
 * Sets, which JSON writes in the order of insertion. Numbers stay as they are written, because they may have more
 * digits than a double. The text is processed in one pass without recursion, because a payload may be deeply nested.
 */
import type * as SchemaAST from "effect/SchemaAST"
import { type Forms, formsOf, isUnordered, memberOf } from "./form.ts"

/** An object or an array that has been opened. */
interface Open {
  readonly isObject: boolean
  /** The forms that it may have been encoded from. */
  readonly forms: Forms
  /** Its complete members; in an object, each with its key. */
  readonly members: Array<string>
  /** The decoded keys of an object, including that of the next member. */
  readonly keys: Array<string>
  /** The text of the last key. */
  key: string
}

const open = (isObject: boolean, schemas: ReadonlyArray<SchemaAST.AST>): Open => ({
  isObject,
  forms: formsOf(schemas, isObject),
  members: [],
  keys: [],
  key: ""
})

/** The Schemas, one of which encoded its next member. */
const nextOf = ({ forms, isObject, keys, members }: Open): ReadonlyArray<SchemaAST.AST> =>
  memberOf(forms, isObject ? keys[members.length]! : members.length)

const isSorted = (keys: ReadonlyArray<string>): boolean => {
  for (let index = 1; index < keys.length; index++) if (keys[index - 1]! > keys[index]!) return false
  return true
}

const close = ({ forms, isObject, keys, members }: Open): string => {
  if (!isObject) {
    if (isUnordered(forms)) members.sort()
    return `[${members.join(",")}]`
  }
  if (isSorted(keys)) return `{${members.join(",")}}`
  const order = keys.map((_, index) => index).sort((a, b) => keys[a]! < keys[b]! ? -1 : keys[a]! > keys[b]! ? 1 : a - b)
  return `{${order.map((index) => members[index]).join(",")}}`
}

/** Where the string that begins here ends. */
const endOfString = (json: string, start: number): number => {
  for (let end = json.indexOf("\"", start + 1); end >= 0; end = json.indexOf("\"", end + 1)) {
    let slashes = 0
    while (json[end - 1 - slashes] === "\\") slashes++
    if (slashes % 2 === 0) return end + 1
  }
  throw new SyntaxError()
}

const isBlank = (code: number): boolean => code === 32 || code === 10 || code === 13 || code === 9

/** Where the number or word that begins here ends. */
const endOfLiteral = (json: string, start: number): number => {
  let end = start
  while (end < json.length) {
    const code = json.charCodeAt(end)
    // A comma, a closing bracket or brace, or a colon.
    if (code === 44 || code === 93 || code === 125 || code === 58 || isBlank(code)) break
    end++
  }
  if (end === start) throw new SyntaxError()
  return end
}

const rewrite = (json: string, schemas: ReadonlyArray<SchemaAST.AST>): string => {
  const stack: Array<Open> = []
  let at = 0
  const skip = () => {
    while (isBlank(json.charCodeAt(at))) at++
  }
  const string = (): string => {
    const start = at
    at = endOfString(json, at)
    return json.slice(start, at)
  }
  const readKey = (top: Open) => {
    if (json[at] !== "\"") throw new SyntaxError()
    const text = string()
    const escaped = text.includes("\\")
    const key = escaped ? JSON.parse(text) as string : text.slice(1, -1)
    top.keys.push(key)
    top.key = escaped ? JSON.stringify(key) : text
    skip()
    if (json[at++] !== ":") throw new SyntaxError()
    skip()
  }

  while (true) {
    skip()
    const top = stack.at(-1)
    let done: string | undefined
    const character = json[at]
    if (character === "{" || character === "[") {
      at++
      const opened = open(character === "{", top === undefined ? schemas : nextOf(top))
      stack.push(opened)
      skip()
      if (json[at] !== (opened.isObject ? "}" : "]")) {
        if (opened.isObject) readKey(opened)
        continue
      }
    } else if (character === "\"") {
      const text = string()
      done = text.includes("\\") ? JSON.stringify(JSON.parse(text)) : text
    } else {
      const start = at
      at = endOfLiteral(json, at)
      done = json.slice(start, at)
    }
    // A complete value is a member of its container, which may now be complete too.
    while (true) {
      if (done !== undefined) {
        const holder = stack.at(-1)
        if (holder === undefined) {
          skip()
          if (at < json.length) throw new SyntaxError()
          return done
        }
        holder.members.push(holder.isObject ? `${holder.key}:${done}` : done)
      }
      const holder = stack.at(-1)!
      skip()
      const next = json[at++]
      if (next === "," && done !== undefined) {
        skip()
        if (holder.isObject) readKey(holder)
        break
      }
      if (next !== (holder.isObject ? "}" : "]")) throw new SyntaxError()
      stack.pop()
      done = close(holder)
    }
  }
}

/**
 * The canonical form of a JSON text, using the Schema that encoded it, if there is one. A text that is not JSON stays
 * as it is.
 */
export const canonical = (json: string, ast?: SchemaAST.AST): string => {
  try {
    return rewrite(json, ast === undefined ? [] : [ast])
  } catch {
    return json
  }
}

/**
 * Reads from a payload's Schema which arrays of its JSON were a Map or a Set, and have no order.
 *
 * It follows the encoded side of the Schema as `Schema.toCodecJson` derives it, so it finds a renamed property by its
 * encoded name. If the Schema leaves open whether an array was a Map or a Set, the array counts as ordered: two equal
 * payloads may then be taken for different, but never two different ones for equal.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

/** What an object or an array was encoded from. */
interface Form {
  readonly ast: SchemaAST.Objects | SchemaAST.Arrays
  /** Whether its members have no order. */
  readonly unordered: boolean
}

/** All possible forms; undefined stands for an unknown one. */
export type Forms = ReadonlyArray<Form | undefined>

const unorderedIds: ReadonlySet<unknown> = new Set(
  ["ReadonlyMap", "ReadonlySet", "HashMap", "HashSet"].map((name) => `effect/schema/${name}`)
)

/** Whether it is a declaration with a JSON form of its own, which lists its members. */
const isCollection = ({ annotations }: SchemaAST.Declaration): boolean =>
  annotations?.["toCodecJson"] === undefined &&
  unorderedIds.has((annotations?.["representation"] as { readonly id?: unknown } | undefined)?.id)

const isScalar = ({ _tag }: SchemaAST.AST): boolean =>
  _tag === "Null" || _tag === "Undefined" || _tag === "Void" || _tag === "Never" || _tag === "String" ||
  _tag === "Number" || _tag === "Boolean" || _tag === "BigInt" || _tag === "Symbol" || _tag === "UniqueSymbol" ||
  _tag === "Literal" || _tag === "TemplateLiteral" || _tag === "Enum"

/** Every object and array that it may be encoded as. */
const find = (ast: SchemaAST.AST): Forms => {
  if (ast.encoding !== undefined) {
    const forms = find(ast.encoding[ast.encoding.length - 1]!.to)
    // The decoded value may have an order, such as a list that was decoded from a Set.
    return ast._tag === "Declaration" ? forms : forms.map((form) => form && { ...form, unordered: false })
  }
  switch (ast._tag) {
    case "Suspend":
      return find(ast.thunk())
    case "Union":
      return ast.types.flatMap(find)
    case "Objects":
    case "Arrays":
      return [{ ast, unordered: false }]
    case "Declaration": {
      const codec = ast.annotations?.["toCodecJson"] ?? ast.annotations?.["toCodec"]
      if (typeof codec !== "function") return [undefined]
      const link = codec(ast.typeParameters.map((parameter) => Schema.make(SchemaAST.toEncoded(parameter))))
      if (link === undefined) return [undefined]
      const { to } = link as SchemaAST.Link
      return isCollection(ast) && to._tag === "Arrays" && to.encoding === undefined
        ? [{ ast: to, unordered: true }]
        : find(to)
    }
    default:
      return isScalar(ast) ? [] : [undefined]
  }
}

// A codec makes its Schema anew each time, so the forms are cached with the codec.
const known = new WeakMap<SchemaAST.AST, Forms>()

/** The forms that an object or an array may have been encoded from, if one of these Schemas encoded it. */
export const formsOf = (schemas: ReadonlyArray<SchemaAST.AST>, isObject: boolean): Forms =>
  unique(
    schemas.flatMap((ast) => {
      let forms = known.get(ast)
      if (forms === undefined) known.set(ast, forms = find(ast))
      return forms.filter((form) => form === undefined || (form.ast._tag === "Objects") === isObject)
    }),
    (form) => form?.ast
  )

/** The first value for each key. Without it, a recursive union would add more at every level. */
const unique = <A>(all: ReadonlyArray<A>, keyOf: (one: A) => unknown): ReadonlyArray<A> => {
  if (all.length < 2) return all
  const byKey = new Map<unknown, A>()
  for (const one of all) if (!byKey.has(keyOf(one))) byKey.set(keyOf(one), one)
  return [...byKey.values()]
}

/** Whether an array has no order, in all of these forms. */
export const isUnordered = (forms: Forms): boolean =>
  forms.length > 0 && forms.every((form) => form !== undefined && form.unordered)

/** The Schemas, one of which encoded the member with this key or index. */
export const memberOf = (forms: Forms, key: string | number): ReadonlyArray<SchemaAST.AST> =>
  unique(
    forms.flatMap((form) => {
      if (form === undefined) return [SchemaAST.unknown]
      if (form.ast._tag === "Arrays") {
        const element = form.ast.elements[key as number]
        return element === undefined ? form.ast.rest : [element]
      }
      return [
        ...form.ast.propertySignatures.filter(({ name }) => name === key),
        ...form.ast.indexSignatures
      ].map(({ type }) => type)
    }),
    (ast) => ast
  )

/**
 * What a payload's Schema says of its JSON: which arrays were a Map or a Set, and have no order.
 *
 * It follows the encoded side of the Schema as `Schema.toCodecJson` derives it, so a property that is written under another
 * name is found by that name. Where the Schema leaves open whether an array was a Map or a Set, it counts as
 * ordered: two payloads may then be told apart that are the same, and never the other way round.
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

/** What an object or an array was encoded from. */
interface Form {
  readonly ast: SchemaAST.Objects | SchemaAST.Arrays
  /** Whether its members have no order. */
  readonly unordered: boolean
}

/** All that comes into question; undefined among it for what is not known. */
export type Forms = ReadonlyArray<Form | undefined>

const unorderedIds: ReadonlySet<unknown> = new Set(
  ["ReadonlyMap", "ReadonlySet", "HashMap", "HashSet"].map((name) => `effect/schema/${name}`)
)

/** Those that own their form in JSON, and whose members it lists. */
const isCollection = ({ annotations }: SchemaAST.Declaration): boolean =>
  annotations?.["toCodecJson"] === undefined &&
  unorderedIds.has((annotations?.["representation"] as { readonly id?: unknown } | undefined)?.id)

const isScalar = ({ _tag }: SchemaAST.AST): boolean =>
  _tag === "Null" || _tag === "Undefined" || _tag === "Void" || _tag === "Never" || _tag === "String" ||
  _tag === "Number" || _tag === "Boolean" || _tag === "BigInt" || _tag === "Symbol" || _tag === "UniqueSymbol" ||
  _tag === "Literal" || _tag === "TemplateLiteral" || _tag === "Enum"

/** Each object and array that it may be encoded as. */
const find = (ast: SchemaAST.AST): Forms => {
  if (ast.encoding !== undefined) {
    const forms = find(ast.encoding[ast.encoding.length - 1]!.to)
    // What becomes of it may have an order, as a list that was decoded from a Set has.
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

// A codec makes its Schema anew each time. What was found of it is kept with it.
const known = new WeakMap<SchemaAST.AST, Forms>()

/** What an object, or an array, may have been encoded from, if one of these Schemas encoded it. */
export const formsOf = (schemas: ReadonlyArray<SchemaAST.AST>, isObject: boolean): Forms =>
  unique(
    schemas.flatMap((ast) => {
      let forms = known.get(ast)
      if (forms === undefined) known.set(ast, forms = find(ast))
      return forms.filter((form) => form === undefined || (form.ast._tag === "Objects") === isObject)
    }),
    (form) => form?.ast
  )

/** The first for each key. Of a recursive union there would be more with every level otherwise. */
const unique = <A>(all: ReadonlyArray<A>, keyOf: (one: A) => unknown): ReadonlyArray<A> => {
  if (all.length < 2) return all
  const byKey = new Map<unknown, A>()
  for (const one of all) if (!byKey.has(keyOf(one))) byKey.set(keyOf(one), one)
  return [...byKey.values()]
}

/** Whether it is an array that has no order, whichever of these it is. */
export const isUnordered = (forms: Forms): boolean =>
  forms.length > 0 && forms.every((form) => form !== undefined && form.unordered)

/** The Schemas of which one encoded the member of this key, or at this place. */
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

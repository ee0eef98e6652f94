/**
 * Makes sure that records are stored whole. Where a Schema takes any object or a record, Effect copies the properties
 * of the value it is given. This loses the entries of a Map, the message of an error, and all but the last of several
 * keys that are the same in JSON.
 *
 * So these places in a Schema get a check, wherever they are: in a union, inside a `Chunk` or an `Option`, or behind a
 * transformation. A struct takes the fields that it names from any object.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaParser from "effect/SchemaParser"
import { instanceOf, isNotJson, lossOf, plain, symbolOf } from "./plain.ts"

type Rewrite = (ast: SchemaAST.AST) => SchemaAST.AST

/** Rewrites each Schema once, because the result is compiled when it is first used. */
const remembered = (rewrite: Rewrite): Rewrite => {
  const known = new WeakMap<SchemaAST.AST, SchemaAST.AST>()
  return (ast) => {
    let made = known.get(ast)
    if (made === undefined) known.set(ast, made = rewrite(ast))
    return made
  }
}

/** Copies with these properties changed, as Effect itself copies a Schema. */
const changed = <A extends object>(original: A, changes: Partial<A>): A =>
  Object.entries(changes).every(([key, value]) => original[key as keyof A] === value)
    ? original
    : Object.assign(Object.create(Object.getPrototypeOf(original)), original, changes)

/** Rewrites the parts of a Schema. Returns the same Schema if no part changes. */
const withParts = (ast: SchemaAST.AST, rewrite: Rewrite): SchemaAST.AST => {
  const same = <A>(parts: ReadonlyArray<A>, part: (one: A) => A) => SchemaAST.mapOrSame(parts, part)
  switch (ast._tag) {
    case "Objects":
      return changed(ast, {
        propertySignatures: same(ast.propertySignatures, (one) => changed(one, { type: rewrite(one.type) })),
        indexSignatures: same(ast.indexSignatures, (one) => changed(one, { type: rewrite(one.type) }))
      })
    case "Arrays":
      return changed(ast, { elements: same(ast.elements, rewrite), rest: same(ast.rest, rewrite) })
    case "Union":
      return changed(ast, { types: same(ast.types, rewrite) })
    case "Suspend":
      return changed(ast, { thunk: () => rewrite(ast.thunk()) })
    case "Declaration":
      return changed(ast, { typeParameters: same(ast.typeParameters, rewrite) })
    default:
      return ast
  }
}

const isRecord = (ast: SchemaAST.AST): ast is SchemaAST.Objects =>
  ast._tag === "Objects" && ast.indexSignatures.length > 0

/** Describes what would be lost if only the properties of the record were copied. */
const lossOfRecord = (value: object, takesSymbols: boolean): string | undefined =>
  instanceOf(value) ?? (takesSymbols ? undefined : symbolOf(value))

/** Changes a codec so that it refuses to encode records that would lose a part. */
export const wholeCodec: Rewrite = remembered((ast) => coded(ast, checksOf(ast)))

/** Adds the checks, and applies `wholeCodec` to the Schema's parts and to what it is encoded as. */
const coded = (ast: SchemaAST.AST, checks: ReadonlyArray<SchemaAST.Check<any>>): SchemaAST.AST => {
  const made = withParts(ast, wholeCodec)
  const links = ast.encoding?.map((link) => new SchemaAST.Link(wholeCodec(link.to), link.transformation))
  return changed(made, {
    checks: isNonEmpty(checks) ? [...made.checks ?? [], ...checks] : made.checks,
    encoding: links !== undefined && isNonEmpty(links) ? links : undefined
  })
}

const isNonEmpty = <A>(all: ReadonlyArray<A>): all is readonly [A, ...Array<A>] => all.length > 0

/** A check of the original value, before encoding. */
const refuse = (loss: (value: object) => string | undefined): SchemaAST.Check<any> =>
  Schema.makeFilter((value: object) => wordsOf(loss(value)))

const wordsOf = (loss: string | undefined): string | undefined =>
  loss === undefined ? undefined : `Expected JSON value, got ${loss}`

const anyObject = refuse(lossOf)

const anyRecord = refuse(instanceOf)

/** Effect's own check of a `Schema.Unknown` names neither the path nor the type of what is not JSON. */
const anyValue: SchemaAST.Check<any> = Schema.makeFilter((value: unknown) => {
  try {
    plain(value)
    return undefined
  } catch (thrown) {
    if (isNotJson(thrown)) return { path: thrown.path, issue: thrown.words }
    throw thrown
  }
})

const checksOf = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.Check<any>> =>
  ast._tag === "Unknown"
    ? [anyValue]
    : ast._tag === "ObjectKeyword"
    ? [anyObject]
    : isRecord(ast)
    ? [anyRecord, keysOf(ast)]
    : []

/** Checks that each key of a record is written, and that no two keys get the same name. */
const keysOf = ({ indexSignatures, propertySignatures }: SchemaAST.Objects): SchemaAST.Check<any> => {
  const named = new Set(propertySignatures.map(({ name }) => name))
  const others = indexSignatures.filter(({ parameter }) => parameter !== SchemaAST.string)
  if (others.length === 0) return refuse(symbolOf)
  const writers = others.map(({ parameter }) =>
    Schema.encodeUnknownExit(Schema.make<Schema.Codec<PropertyKey, PropertyKey>>(parameter))
  )
  const takesTexts = others.length < indexSignatures.length
  /** The names under which a key is written. A string key may have none, like a field that a struct does not name. */
  const namesOf = (key: PropertyKey): ReadonlyArray<PropertyKey> => {
    if (named.has(key)) return [key]
    const written = writers.map((write) => write(key)).filter(Exit.isSuccess).map((exit) => exit.value)
    return takesTexts && typeof key === "string" ? [key, ...written] : written
  }
  return refuse((value) => {
    const keys = new Map<PropertyKey, PropertyKey>()
    for (const key of Reflect.ownKeys(value)) {
      if (!Object.prototype.propertyIsEnumerable.call(value, key)) continue
      const names = namesOf(key)
      if (names.length === 0 && typeof key === "symbol") return `an object with the property ${String(key)}`
      for (const name of names) {
        const other = keys.get(name) ?? (named.has(name) ? name : key)
        if (other !== key) return `an object with two properties that are ${JSON.stringify(name)} in JSON`
        keys.set(name, key)
      }
    }
    return undefined
  })
}

/**
 * Changes a Schema so that `makeEffect`, which checks callers' input, does not lose parts of records either. Its checks
 * run after the copy, so records become declarations, which see the original value.
 */
export const wholeInput = (ast: SchemaAST.AST): SchemaAST.AST => wholeType(SchemaAST.toType(ast))

const wholeType: Rewrite = remembered((ast) => {
  const made = withParts(ast, wholeType)
  if (!isRecord(made)) return made
  const takesSymbols = made.indexSignatures.some(({ parameter }) => parameter !== SchemaAST.string)
  const take: SchemaAST.Declaration["run"] = ([record]) => {
    const make = SchemaParser.makeEffect(Schema.make(record!))
    return (input, _self, options) => {
      const words = typeof input === "object" && input !== null
        ? wordsOf(lossOfRecord(input, takesSymbols))
        : undefined
      return words === undefined
        ? make(input as never, { parseOptions: options })
        : Effect.fail(new SchemaIssue.InvalidValue({ message: words }, input, options))
    }
  }
  return new SchemaAST.Declaration([made], take, undefined, undefined, undefined, made.context)
})

/** Schemas whose encoded values are data that Effect has made itself, of nothing but what JSON writes. */
import type * as SchemaAST from "effect/SchemaAST"

/** The most parts of a Schema that are looked at. One with more counts as one that is not known. */
const maxParts = 1_000

/**
 * Whether the Schema copies all that it encodes, and says of each part what it is. What stands in a `Schema.Any`, a
 * `Schema.Unknown` or a declaration without a codec is the caller's own instead, as is what an empty struct takes.
 */
export const isData = (encoded: SchemaAST.AST): boolean => {
  const seen = new Set<SchemaAST.AST>([encoded])
  for (const ast of seen) {
    if (seen.size > maxParts) return false
    const parts = partsOf(ast)
    if (parts === undefined) return false
    for (const part of parts) seen.add(part)
  }
  return true
}

/** What it is made of; nothing where its values may be anything. */
const partsOf = (ast: SchemaAST.AST): ReadonlyArray<SchemaAST.AST> | undefined => {
  switch (ast._tag) {
    case "Null":
    case "Never":
    case "String":
    case "Number":
    case "Boolean":
    case "TemplateLiteral":
    case "Enum":
      return []
    case "Literal":
      return typeof ast.literal === "bigint" ? undefined : []
    case "Arrays":
      return [...ast.elements, ...ast.rest]
    case "Objects": {
      const parts = [...ast.propertySignatures, ...ast.indexSignatures].map(({ type }) => type)
      return parts.length > 0 ? parts : undefined
    }
    case "Union":
      return ast.types
    case "Suspend":
      return [ast.thunk()]
    default:
      return undefined
  }
}

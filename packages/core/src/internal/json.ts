/** Encodes values as JSON text. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as Limits from "../Limits.ts"
import { describe } from "../Thrown.ts"
import { isData } from "./data.ts"
import { isNotJson, NotJson, plain } from "./plain.ts"
import { wholeCodec } from "./whole.ts"

/**
 * Encodes values with the Schema and writes them as JSON. All values that would lose something fail here.
 * `Schema.toCodecJson` alone accepts any value for a `Schema.Any`, and turns any object into a record; `JSON.stringify`
 * throws for some values and leaves out others.
 */
export const toText = (schema: Schema.Top) => {
  const ast = wholeCodec(Schema.toCodecJson(schema).ast)
  const encode = Schema.encodeUnknownEffect(Schema.make<Schema.Codec<unknown>>(ast))
  // Computed on first use: a recursive Schema may not be complete yet.
  let known: boolean | undefined
  const write = (encoded: unknown): Effect.Effect<string, NotJson> => {
    try {
      known ??= isData(SchemaAST.toEncoded(ast))
      return Effect.succeed(JSON.stringify(known ? encoded : plain(encoded)))
    } catch (thrown) {
      return Effect.fail(notJson(thrown))
    }
  }
  return (value: unknown): Effect.Effect<string, Schema.SchemaError | NotJson> => {
    try {
      return Effect.flatMap(encode(value), write)
    } catch (thrown) {
      return Effect.fail(notJson(thrown))
    }
  }
}

/** The error of a value that threw in a getter or a proxy, is nested too deeply, or has too long a text. */
const notJson = (thrown: unknown): NotJson =>
  isNotJson(thrown)
    ? thrown
    : new NotJson({ words: `Expected JSON value: ${describe(thrown, Limits).words}`, path: [] })

/** From a value to the JSON text that its Schema makes of it. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as Limits from "../Limits.ts"
import { describe } from "../Thrown.ts"
import { isData } from "./data.ts"
import { isNotJson, NotJson, plain } from "./plain.ts"
import { wholeCodec } from "./whole.ts"

/**
 * Encodes values by the Schema and writes them as JSON. `Schema.toCodecJson` lets through whatever stands in a `Schema.Any`, and
 * makes a record of whatever a Schema of records is given; `JSON.stringify` throws, or leaves things out. All of that fails here.
 */
export const toText = (schema: Schema.Top) => {
  const ast = wholeCodec(Schema.toCodecJson(schema).ast)
  const encode = Schema.encodeUnknownEffect(Schema.make<Schema.Codec<unknown>>(ast))
  // Later than now: a recursive Schema may not be complete yet.
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

/** A getter or a proxy threw; or it is nested too deep, or its text is too long for this machine. */
const notJson = (thrown: unknown): NotJson =>
  isNotJson(thrown) ? thrown : new NotJson({ message: `Expected JSON value: ${describe(thrown, Limits).words}` })

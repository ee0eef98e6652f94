/** From a task's Schemas to JSON and back. */
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/**
 * The Schema with JSON on the other side, and nothing else. `Schema.toCodecJson` lets through whatever stands in a
 * `Schema.Any`, and `JSON.stringify` then throws, or leaves things out and says nothing.
 */
export const toJson = (schema: Schema.Top): Schema.Top =>
  Schema.Json.pipe(
    Schema.decodeTo(
      Schema.toCodecJson(schema) as Schema.Top as Schema.Codec<unknown, Schema.Json>,
      SchemaTransformation.passthrough()
    )
  )

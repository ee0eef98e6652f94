/** Turns a payload from the caller's value into the stored text. */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaIssue from "effect/SchemaIssue"
import { BrokerError, InvalidPayload, PayloadTooLarge } from "../BrokerError.ts"
import * as Limits from "../Limits.ts"
import type { Any } from "../Definition.ts"
import { describe } from "../Thrown.ts"
import { toText } from "./json.ts"
import { hasUnstorableEscape, utf8Bytes } from "./text.ts"
import { wholeInput } from "./whole.ts"

interface Codec {
  readonly make: (input: unknown) => Effect.Effect<unknown, { readonly message: string }>
  readonly encode: (value: unknown) => Effect.Effect<string, { readonly message: string }, any>
}

const formatIssue = SchemaIssue.makeFormatterDefault()

// Compiling a Schema's encoder costs far more than using it.
const codecs = new WeakMap<object, Codec>()

const codecOf = (task: Any): Codec => {
  const known = codecs.get(task)
  if (known !== undefined) return known
  const { payloadSchema } = task
  const ast = wholeInput(payloadSchema.ast)
  // A class makes itself of nothing, too.
  const schema = ast === SchemaAST.toType(payloadSchema.ast) ? payloadSchema : Schema.make<typeof payloadSchema>(ast)
  const codec: Codec = {
    make: (input) => Effect.mapError(schema.makeEffect(input as never), (issue) => ({ message: formatIssue(issue) })),
    encode: toText(payloadSchema)
  }
  codecs.set(task, codec)
  return codec
}

/** Checks, encodes and bounds a payload. Reports every problem before anything is written. */
export const encodePayload = Effect.fnUntraced(function*<T extends Any>(
  task: T,
  input: unknown
): Effect.fn.Return<
  { readonly text: string; readonly value: unknown },
  BrokerError,
  T["payloadSchema"]["EncodingServices"]
> {
  const invalid = (detail: string) => new BrokerError({ reason: new InvalidPayload({ task: task._tag, detail }) })
  const codec = codecOf(task)
  const refused = <A, R>(step: () => Effect.Effect<A, { readonly message: string }, R>) =>
    Effect.suspend(step).pipe(
      Effect.mapError(({ message }) => invalid(message)),
      // A getter or a proxy of the input threw, or the Schema's own code did.
      Effect.catchDefect((thrown) => Effect.fail(invalid(describe(thrown, Limits).words)))
    )
  const value = yield* refused(() => codec.make(input))
  const text = yield* refused(() => codec.encode(value))
  if (hasUnstorableEscape(text)) {
    return yield* invalid(
      "the payload contains a NUL character or half a surrogate pair; remove it, or send the bytes as base64"
    )
  }
  const maxBytes = yield* Limits.MaxPayloadBytes
  const fault = Limits.faultOfSize("Limits.MaxPayloadBytes", maxBytes)
  if (fault !== undefined) return yield* invalid(fault)
  const bytes = utf8Bytes(text, maxBytes)
  if (bytes > maxBytes) {
    return yield* new BrokerError({ reason: new PayloadTooLarge({ task: task._tag, bytes, maxBytes }) })
  }
  const warnBytes = yield* Limits.WarnPayloadBytes
  if (bytes > warnBytes) {
    yield* Effect.logWarning("a large payload: consider storing it elsewhere and enqueueing a reference").pipe(
      Effect.annotateLogs({ task: task._tag, bytes, warnBytes })
    )
  }
  return { text, value }
})

/** What JSON would lose of a payload or a result without a word. */
import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, HashMap, Option, Schema, SchemaGetter, SchemaTransformation } from "effect"
import { Broker, Handler, MemoryBroker, Task } from "../src/index.ts"

class Money {
  readonly #cents = 5
  get cents() {
    return this.#cents
  }
}

const Fields = Schema.Record(Schema.String, Schema.Unknown)

/** A record behind a transformation. */
const Renamed = Fields.pipe(Schema.encodeTo(Schema.Struct({ fields: Fields }), {
  decode: SchemaGetter.transform(({ fields }) => fields),
  encode: SchemaGetter.transform((fields) => ({ fields }))
}))

/** A value behind one that makes a list of it. */
const Listed = (of: Schema.Codec<any, any>) => Schema.Tuple([of])

interface Tree {
  readonly nested?: Tree
  readonly of?: unknown
}

const Nested = (of: Schema.Codec<any, any>): Schema.Codec<Tree, any> => {
  const tree: Schema.Codec<Tree, any> = Schema.Struct({
    nested: Schema.optionalKey(Schema.suspend(() => tree)),
    of: Schema.optionalKey(of)
  })
  return tree
}

/** It has its own form in JSON, which is a record. */
const Sum = Schema.declare((u: unknown): u is Money => u instanceof Money, {
  toCodecJson: () =>
    Schema.link<Money>()(Schema.Record(Schema.String, Schema.Int), {
      decode: SchemaGetter.transform(() => new Money()),
      encode: SchemaGetter.transform(({ cents }) => ({ cents }))
    })
})

class Choices extends Schema.Class<Choices>("Choices")({ page: Schema.optionalKey(Schema.Int) }) {}

/** How the value ends as the result of a handler. */
const resultOf = (success: Schema.Codec<any, any>, value: unknown) => {
  const AsResult = Task.make("AsResult", { success })
  return Effect.flatMap(
    Effect.service(Handler.key("AsResult")),
    (handler) =>
      handler.run({ executionId: "0190-a", queue: "default", attempt: 1, payload: "null", traceparent: Option.none() })
  )
    .pipe(Effect.provide(AsResult.toLayer(() => Effect.succeed(value))))
}

/** How the value is stored as a payload, or why it is not. */
const storedAs = (payload: Schema.Codec<any, any>, value: unknown) =>
  Effect.gen(function*() {
    const { id } = yield* Task.enqueue(Task.make("AsPayload", { payload }), value)
    const record = yield* Effect.flatMap(Broker.Broker, (broker) => broker.read(id))
    return Option.getOrThrow(record).payload
  }).pipe(Effect.provide(MemoryBroker.layer))

/** Both fail, and say so. */
const refuses = (schema: Schema.Codec<any, any>, value: unknown, words: string) =>
  Effect.gen(function*() {
    const ended = yield* resultOf(schema, value)
    assert(ended._tag === "Died" && ended.reason._tag === "Undecodable", words)
    assert.include(ended.reason.detail, words)
    const error = yield* Effect.flip(storedAs(schema, value))
    assert(error._tag === "BrokerError" && error.reason._tag === "InvalidPayload", words)
    assert.include(error.reason.detail, words)
  })

const takes = (schema: Schema.Codec<any, any>, value: unknown, text: string) =>
  Effect.gen(function*() {
    assert.deepStrictEqual(yield* resultOf(schema, value), { _tag: "Succeeded", value: text })
    assert.strictEqual(yield* storedAs(schema, value), text)
  })

describe("JSON", () => {
  it.effect("says where a value is and what it is, under a Schema that takes anything too", () =>
    Effect.gen(function*() {
      const value = { a: [1, { b: undefined }] }
      for (const schema of [Schema.Any, Schema.Unknown]) {
        yield* refuses(schema, value, `Expected JSON value, got undefined\n  at ["a"][1]["b"]`)
        yield* refuses(
          Schema.Struct({ x: Schema.Record(Schema.String, schema) }),
          { x: { y: value } },
          `Expected JSON value, got undefined\n  at ["x"]["y"]["a"][1]["b"]`
        )
      }
      yield* takes(Schema.Union([Schema.Unknown, Schema.Date]), new Date(0), `"1970-01-01T00:00:00.000Z"`)
    }))

  const things: ReadonlyArray<readonly [value: object, words: string]> = [
    [new Map([["a", 1]]), "an instance of Map"],
    [new Set([1]), "an instance of Set"],
    [new Date(0), "an instance of Date"],
    [new TypeError("no"), "an instance of TypeError"],
    [new Money(), "an instance of Money"],
    [Object.assign(new Error("no"), { code: 1 }), "an instance of Error"],
    [Object.assign(new Map([["a", 1]]), { code: 1 }), "an instance of Map"],
    [new Choices({ page: 1 }), "an instance of Choices"]
  ]
  for (const [value, words] of things) {
    it.effect(`refuses ${words} where the Schema takes an object, and says where it is`, () =>
      Effect.gen(function*() {
        for (const schema of [Schema.ObjectKeyword, Fields]) {
          yield* refuses(schema, value, words)
          yield* refuses(Schema.Struct({ rows: Schema.Array(schema) }), { rows: [{}, value] }, "\n  at [\"rows\"][1]")
          yield* refuses(Schema.ReadonlyMap(Schema.String, schema), new Map([["k", value]]), "[0][1]")
          yield* refuses(Schema.Option(schema), Option.some(value), words)
        }
        yield* refuses(Schema.Any, { a: [value] }, "\n  at [\"a\"][0]")
        for (const schema of [Schema.ObjectKeyword, Fields, Renamed]) {
          yield* refuses(Schema.Chunk(schema), Chunk.of(value), words)
          yield* refuses(Schema.HashMap(Schema.String, schema), HashMap.make(["k", value]), words)
          yield* refuses(Schema.Union([Schema.String, schema]), value, words)
          yield* refuses(Schema.Struct({ a: schema }).pipe(Schema.encodeKeys({ a: "b" })), { a: value }, "[\"a\"]")
          yield* refuses(Listed(schema), [value], words)
          yield* refuses(Nested(schema), { nested: { of: value } }, "[\"nested\"][\"of\"]")
        }
      }))
  }

  it.effect("takes the fields that a struct names, of any object", () =>
    Effect.gen(function*() {
      const error = Object.assign(new Error("no"), { code: 1, more: 2 })
      yield* takes(Schema.Struct({ code: Schema.Int }), error, "{\"code\":1}")
      yield* takes(Schema.Struct({ message: Schema.String }), error, "{\"message\":\"no\"}")
    }))

  it.effect("takes a record wherever it stands, and what has a record as its own form", () =>
    Effect.gen(function*() {
      yield* takes(Schema.Array(Sum), [new Money()], "[{\"cents\":5}]")
      yield* takes(Schema.Array(Choices), [new Choices({ page: 1 })], "[{\"page\":1}]")
      yield* takes(Schema.ReadonlyMap(Schema.String, Fields), new Map([["k", { a: 1 }]]), "[[\"k\",{\"a\":1}]]")
      yield* takes(Schema.HashMap(Schema.String, Fields), HashMap.make(["k", { a: 1 }]), "[[\"k\",{\"a\":1}]]")
      yield* takes(Renamed, { a: 1 }, "{\"fields\":{\"a\":1}}")
      yield* takes(Nested(Fields), { nested: { of: { a: 1 } } }, "{\"nested\":{\"of\":{\"a\":1}}}")
      yield* takes(
        Schema.Union([Fields, Schema.ReadonlyMap(Schema.String, Schema.Int)]),
        new Map([["a", 1]]),
        "[[\"a\",1]]"
      )
    }))

  it.effect("refuses two keys that are one in JSON, and a key that no record takes", () =>
    Effect.gen(function*() {
      const key = Symbol.for("a")
      const Keyed = Schema.Record(Schema.Union([Schema.String, Schema.Symbol]), Schema.Int)
      const Lower = Schema.Record(
        Schema.String.pipe(Schema.decode(SchemaTransformation.toLowerCase())).pipe(Schema.flip),
        Schema.Int
      )
      const words = "an object with two properties that are \"Symbol(a)\" in JSON"
      yield* takes(Keyed, { a: 1, [key]: 2 }, "{\"a\":1,\"Symbol(a)\":2}")
      yield* refuses(Keyed, { "Symbol(a)": 1, [key]: 2 }, words)
      yield* refuses(Schema.Array(Keyed), [{}, { [key]: 1, "Symbol(a)": 2 }], `${words}\n  at [1]`)
      yield* refuses(
        Schema.StructWithRest(Schema.Struct({ "Symbol(a)": Schema.Int }), [Schema.Record(Schema.Symbol, Schema.Int)]),
        { "Symbol(a)": 1, [key]: 2 },
        words
      )
      yield* takes(Lower, { A: 1, b: 2 }, "{\"a\":1,\"b\":2}")
      yield* refuses(Lower, { A: 1, a: 2 }, "an object with two properties that are \"a\" in JSON")
      yield* refuses(Fields, { a: 1, [key]: 2 }, "an object with the property Symbol(a)")
      yield* refuses(Schema.ObjectKeyword, { a: 1, [key]: 2 }, "an object with the property Symbol(a)")
      yield* refuses(Schema.ObjectKeyword, "abc".match(/b/), "an array with the property \"index\"")
    }))

  it.effect("takes what a Schema itself makes an empty object of", () =>
    Effect.gen(function*() {
      yield* takes(Choices, new Choices({}), "{}")
      yield* takes(Schema.ObjectKeyword, {}, "{}")
      yield* takes(Schema.ObjectKeyword, Object.create(null), "{}")
      yield* takes(Schema.Record(Schema.String, Schema.Unknown), {}, "{}")
      yield* takes(Schema.ReadonlyMap(Schema.String, Schema.Int), new Map(), "[]")
    }))

  it.effect("writes what a Schema copies as it is copied", () =>
    Effect.gen(function*() {
      const Whole = Schema.Record(Schema.String, Schema.Int)
      yield* takes(Whole, JSON.parse("{\"__proto__\":1,\"a\":2}"), "{\"__proto__\":1,\"a\":2}")
      yield* takes(Schema.Array(Schema.Number), Object.assign([1, Number.NaN], { toJSON: () => 5 }), "[1,\"NaN\"]")
      yield* takes(Schema.Struct({ a: Schema.optional(Schema.Int) }), { a: undefined }, "{\"a\":null}")
      yield* takes(Schema.Struct({ toJSON: Schema.String }), { toJSON: "x" }, "{\"toJSON\":\"x\"}")
      yield* takes(Nested(Schema.Int), { nested: { of: 1 } }, "{\"nested\":{\"of\":1}}")
      yield* refuses(Nested(Schema.Any), { nested: { of: { toJSON: () => 5 } } }, "a toJSON of its own")
      yield* refuses(Schema.Struct({ a: Schema.Struct({}) }), { a: new Map() }, "an instance of Map")
    }))

  it.effect("refuses what is not written, and a toJSON that would write something else", () =>
    Effect.gen(function*() {
      const hidden = Object.defineProperty({ a: 1 }, "toJSON", { value: () => "changed" })
      const list = Object.defineProperty([1], "toJSON", { value: () => "changed" })
      yield* refuses(Schema.Any, { in: hidden }, "an object with a toJSON of its own\n  at [\"in\"]")
      yield* refuses(Schema.Any, [list], "an array with a toJSON of its own\n  at [0]")
      yield* refuses(Schema.Any, { [Symbol("unit")]: "EUR" }, "an object with the property Symbol(unit)")
      yield* refuses(Schema.Any, "abc".match(/b/), "an array with the property \"index\"")
      yield* refuses(Schema.Any, {
        a: (function() {
          return arguments
        })()
      }, "\n  at [\"a\"]")
      const circle: Array<unknown> = []
      circle.push({ circle })
      yield* refuses(Schema.Any, circle, "a value that contains itself\n  at [0][\"circle\"]")
    }))

  it.effect("refuses parts that are shared so often that no broker carries the text", () =>
    Effect.gen(function*() {
      let parts: unknown = 1
      for (let level = 0; level < 24; level++) parts = [parts, parts]
      const ended = yield* resultOf(Schema.Any, parts)
      assert(ended._tag === "Died" && ended.reason._tag === "Undecodable", ended._tag)
      assert.include(ended.reason.detail, "more than")
    }))

  it.effect("writes what it has checked, whatever is found there at another look", () =>
    Effect.gen(function*() {
      // What is hidden on purpose is no data; `__proto__` may be a key like any other.
      yield* takes(Schema.Any, Object.defineProperty({ a: 1 }, "b", { value: 2 }), "{\"a\":1}")
      yield* takes(Schema.Any, JSON.parse("{\"__proto__\":{\"a\":1}}"), "{\"__proto__\":{\"a\":1}}")
      const shared = { a: 1 }
      yield* takes(Schema.Any, [shared, shared], "[{\"a\":1},{\"a\":1}]")
      let looks = 0
      const fickle = {
        get a() {
          return looks++ === 0 ? 1 : () => "gone"
        }
      }
      assert.deepStrictEqual(yield* resultOf(Schema.Any, fickle), { _tag: "Succeeded", value: "{\"a\":1}" })
    }))

  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const throwing = (thrown: unknown): object =>
    Object.defineProperty({}, "a", {
      enumerable: true,
      get() {
        throw thrown
      }
    })
  const silent = {
    toString() {
      throw new Error("no words")
    }
  }
  const hostile: ReadonlyArray<readonly [what: string, value: object, words: string]> = [
    ["a getter that throws", throwing(new Error("no a")), "no a"],
    ["a getter that throws what has no words", throwing(silent), "Object"],
    ["a getter that throws a proxy that was revoked", throwing(proxy), "<it cannot be described>"],
    ["a proxy that was revoked", proxy, "revoked"]
  ]
  for (const [what, value, words] of hostile) {
    it.effect(`refuses ${what}`, () =>
      Effect.gen(function*() {
        for (
          const schema of [Schema.Any, Schema.Unknown, Schema.ObjectKeyword, Fields, Schema.Struct({ a: Schema.Int })]
        ) {
          for (const [of, held] of [[schema, value], [Schema.Array(schema), [value]]] as const) {
            yield* refuses(of, held, words)
          }
        }
      }))
  }
})

/** What JSON would lose of a payload or a result without a word. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Schema } from "effect"
import { Broker, Handler, MemoryBroker, Task } from "../src/index.ts"

class Money {
  readonly #cents = 5
  get cents() {
    return this.#cents
  }
}

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
  const things: ReadonlyArray<readonly [value: object, words: string]> = [
    [new Map([["a", 1]]), "an instance of Map"],
    [new Set([1]), "an instance of Set"],
    [new Date(0), "an instance of Date"],
    [new TypeError("no"), "an instance of TypeError"],
    [new Money(), "an instance of Money"]
  ]
  for (const [value, words] of things) {
    it.effect(`refuses ${words} where the Schema takes an object, and says where it is`, () =>
      Effect.gen(function*() {
        const Fields = Schema.Record(Schema.String, Schema.Unknown)
        for (const schema of [Schema.ObjectKeyword, Fields]) {
          yield* refuses(schema, value, words)
          yield* refuses(Schema.Struct({ rows: Schema.Array(schema) }), { rows: [{}, value] }, "\n  at [\"rows\"][1]")
          yield* refuses(Schema.ReadonlyMap(Schema.String, schema), new Map([["k", value]]), "\n  at [0][1]")
          yield* refuses(Schema.Option(schema), Option.some(value), words)
        }
        yield* refuses(Schema.Any, { a: [value] }, "\n  at [\"a\"][0]")
      }))
  }

  it.effect("takes what a Schema itself makes an empty object of", () =>
    Effect.gen(function*() {
      yield* takes(Choices, new Choices({}), "{}")
      yield* takes(Schema.ObjectKeyword, {}, "{}")
      yield* takes(Schema.ObjectKeyword, Object.create(null), "{}")
      yield* takes(Schema.Record(Schema.String, Schema.Unknown), {}, "{}")
      yield* takes(Schema.ReadonlyMap(Schema.String, Schema.Int), new Map(), "[]")
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
      yield* refuses(Schema.Any, circle, "what is within itself\n  at [0][\"circle\"]")
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
})

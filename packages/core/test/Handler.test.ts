import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, type Exit, Fiber, Layer, Logger, Option, Schema } from "effect"
import { Handler, Limits, Outcome, Task } from "../src/index.ts"

class Bad extends Schema.TaggedError<Bad>()("Bad", { at: Schema.Date }) {}

class Greeting extends Context.Service<Greeting, { readonly word: string }>()("Greeting") {}

class Greet extends Task.make("Greet", {
  payload: { name: Schema.String, when: Schema.optionalKey(Schema.Date) },
  success: Schema.Struct({ text: Schema.String, when: Schema.OptionFromNullOr(Schema.Date) }),
  error: Bad
}) {}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

const input = (payload: string, parent?: string): Handler.Input => ({
  executionId: "0190-a",
  queue: "default",
  attempt: 2,
  payload,
  traceparent: Option.fromUndefinedOr(parent)
})

/** Runs one attempt through a handler, as every runner does. */
const run = <R>(
  layer: Layer.Layer<Handler.Handler<"Greet">, never, R>,
  text: string,
  parent?: string
): Effect.Effect<unknown, never, R> =>
  Effect.flatMap(Effect.service(Handler.key("Greet")), (handler) => handler.run(input(text, parent))).pipe(
    Effect.provide(layer)
  )

describe("Handler", () => {
  it.effect("decodes the payload, runs with its layer's services, and encodes the success", () =>
    Effect.gen(function*() {
      const layer = Greet.toLayer(({ name, when }) =>
        Effect.map(Greeting, ({ word }) => ({ text: `${word} ${name}`, when: Option.fromUndefinedOr(when) }))
      )
      const services = Layer.succeed(Greeting, { word: "hello" })
      const ended = yield* run(layer, "{\"name\":\"x\",\"when\":\"2020-01-01T00:00:00.000Z\"}").pipe(
        Effect.provide(services)
      )
      assert.deepStrictEqual(ended, {
        _tag: "Succeeded",
        value: "{\"text\":\"hello x\",\"when\":\"2020-01-01T00:00:00.000Z\"}"
      })
    }))

  it.effect("encodes a declared error by its Schema", () =>
    Effect.gen(function*() {
      const ended = yield* run(Greet.toLayer(() => Effect.fail(new Bad({ at: new Date(0) }))), "{\"name\":\"x\"}")
      assert.deepStrictEqual(ended, {
        _tag: "Failed",
        error: "{\"_tag\":\"Bad\",\"at\":\"1970-01-01T00:00:00.000Z\"}"
      })
    }))

  it.effect("calls what it cannot decode or encode undecodable", () =>
    Effect.gen(function*() {
      const layer = Greet.toLayer(() => Effect.succeed({ text: 1 as never, when: Option.none() }))
      for (const text of ["{\"name\":1}", "{", "null", "{\"name\":\"x\"}"]) {
        const ended = (yield* run(layer, text)) as { readonly reason: { readonly _tag: string; readonly what: string } }
        assert.strictEqual(ended.reason._tag, "Undecodable", text)
        assert.strictEqual(ended.reason.what, text === "{\"name\":\"x\"}" ? "result" : "payload")
      }
    }))

  it.effect("calls a result or a declared error that is not JSON undecodable, where the Schema takes anything", () =>
    Effect.gen(function*() {
      class Loose extends Schema.TaggedError<Loose>()("Loose", { value: Schema.Any }) {}
      const circle: { self?: unknown } = {}
      circle.self = circle
      const deep = Array.from({ length: 100_000 }).reduce<unknown>((inner) => [inner], 1)
      const values = [
        1n,
        { a: [1n] },
        circle,
        undefined,
        { a: undefined },
        () => 1,
        Number.NaN,
        [Infinity],
        new Map(),
        deep
      ]
      for (const schema of [Schema.Any, Schema.Unknown]) {
        const Anything = Task.make("Anything", { success: schema, error: Loose })
        const end = (handler: Effect.Effect<unknown, Loose>) =>
          Effect.flatMap(Effect.service(Handler.key("Anything")), (handler) => handler.run(input("null"))).pipe(
            Effect.provide(Anything.toLayer(() => handler))
          )
        for (const value of values) {
          const result = yield* end(Effect.succeed(value))
          assert(result._tag === "Died" && result.reason._tag === "Undecodable", JSON.stringify(result))
          assert.strictEqual(result.reason.what, "result")
          const error = yield* end(Effect.fail(new Loose({ value })))
          assert(error._tag === "Died" && error.reason._tag === "Undecodable", JSON.stringify(error))
          assert.strictEqual(error.reason.what, "error")
          assert.match(error.reason.detail, / in Loose: \{"value":/)
        }
        assert.deepStrictEqual(yield* end(Effect.succeed({ a: [null, 1] })), {
          _tag: "Succeeded",
          value: "{\"a\":[null,1]}"
        })
      }
    }))

  it.effect("calls an error that the task does not declare a defect, whatever its type said", () =>
    Effect.gen(function*() {
      const ended = (yield* run(Greet.toLayer(() => Effect.fail({ code: 1 } as never)), "{\"name\":\"x\"}")) as {
        readonly reason: unknown
      }
      assert.include(ended.reason, { _tag: "Defect", name: "Object", detail: "{\"code\":1}" })
    }))

  it.effect("refuses a result over the limit", () =>
    Effect.gen(function*() {
      const layer = Greet.toLayer(() => Effect.succeed({ text: "x".repeat(100), when: Option.none() }))
      const ended = (yield* run(layer, "{\"name\":\"x\"}").pipe(Effect.provideService(Limits.MaxResultBytes, 50))) as {
        readonly reason: { readonly _tag: string; readonly bytes: number }
      }
      assert.strictEqual(ended.reason._tag, "ResultTooLarge")
      assert.isAbove(ended.reason.bytes, 100)
    }))

  it.effect("calls an interruption of its own making a defect, and passes on one from outside", () =>
    Effect.gen(function*() {
      const own = (yield* run(Greet.toLayer(() => Effect.interrupt), "{\"name\":\"x\"}")) as {
        readonly _tag: string
        readonly reason: { readonly detail: string }
      }
      assert.strictEqual(own._tag, "Died")
      assert.include(own.reason.detail, "interrupted itself")
      const fiber = yield* Effect.forkChild(run(Greet.toLayer(() => Effect.never), "{\"name\":\"x\"}"))
      yield* Effect.yieldNow
      yield* Fiber.interrupt(fiber)
      assert.isTrue(fiber.pollUnsafe()?._tag === "Failure")
    }))

  it.effect("tells a stop that was asked for from a death, whatever a finalizer died of meanwhile", () =>
    Effect.gen(function*() {
      const exitOf = Effect.fnUntraced(function*(handler: Effect.Effect<never>) {
        const fiber = yield* Effect.forkChild(run(Greet.toLayer(() => handler), "{\"name\":\"x\"}"))
        yield* Effect.yieldNow
        yield* Fiber.interrupt(fiber)
        return (yield* Fiber.await(fiber)) as Exit.Exit<Outcome.Ended>
      })
      const lines: Array<unknown> = []
      const logger = Logger.map(Logger.formatStructured, ({ annotations }) => lines.push(annotations))
      const endOf = Effect.fnUntraced(function*(exit: Exit.Exit<Outcome.Ended>, stopped: boolean) {
        const told: Array<Effect.Effect<void>> = []
        const ended = Handler.endOf(exit, stopped, (line) => told.push(line))
        yield* Effect.provide(Effect.all(told), Logger.layer([logger]))
        return ended
      })
      const stopped = Outcome.Ended.Interrupted({ confirmed: true })
      const quiet = yield* exitOf(Effect.never)
      assert.deepStrictEqual(yield* endOf(quiet, true), stopped)
      const own = yield* endOf(quiet, false)
      assert(own._tag === "Died" && own.reason._tag === "Defect")
      assert.strictEqual(own.reason.detail, "the handler interrupted itself")
      assert.lengthOf(lines, 0)
      const loud = yield* exitOf(Effect.ensuring(Effect.never, Effect.die(new TypeError("not closed"))))
      assert.deepStrictEqual(yield* endOf(loud, true), stopped)
      assert.lengthOf(lines, 1)
      assert.include(lines[0], { error: "TypeError: not closed" })
    }))

  it.effect("closes the attempt's scope before it ends, and tells the handler which attempt it serves", () =>
    Effect.gen(function*() {
      const seen: Array<string> = []
      const layer = Greet.toLayer(() =>
        Effect.gen(function*() {
          yield* Effect.addFinalizer(() => Effect.sync(() => seen.push("closed")))
          const attempt = yield* Handler.Attempt
          seen.push(`${attempt.executionId} ${attempt.task} ${attempt.attempt}`)
          return { text: "", when: Option.none() }
        })
      )
      yield* run(layer, "{\"name\":\"x\"}")
      assert.deepStrictEqual(seen, ["0190-a Greet 2", "closed"])
    }))

  it.effect("puts task, execution and attempt on every line that a handler logs, beside what is there", () =>
    Effect.gen(function*() {
      const lines: Array<unknown> = []
      const logger = Logger.map(
        Logger.formatStructured,
        ({ annotations, message }) => lines.push([message, annotations])
      )
      const layer = Greet.toLayer(() =>
        Effect.as(Effect.annotateLogs(Effect.logInfo("hello"), { page: 1 }), { text: "", when: Option.none() })
      )
      yield* run(layer, "{\"name\":\"x\"}").pipe(
        Effect.annotateLogs({ service: "greeter" }),
        Effect.provide(Logger.layer([logger]))
      )
      assert.deepStrictEqual(lines, [
        ["hello", { service: "greeter", task: "Greet", execution: "0190-a", attempt: 2, page: 1 }]
      ])
    }))

  it.effect("tells of the error and of the finalizer, where that died beside it", () =>
    Effect.gen(function*() {
      const layer = Greet.toLayer(() =>
        Effect.andThen(
          Effect.addFinalizer(() => Effect.die(new TypeError("not closed"))),
          Effect.fail(new Bad({ at: new Date(0) }))
        )
      )
      const ended = (yield* run(layer, "{\"name\":\"x\"}")) as { readonly reason: { readonly detail: string } }
      assert.strictEqual(
        ended.reason.detail,
        "{\"at\":\"1970-01-01T00:00:00.000Z\"} (beside: TypeError: not closed)"
      )
    }))

  it.effect("continues the trace it is given; rubbish is no parent and no error", () =>
    Effect.gen(function*() {
      const layer = Greet.toLayer(() =>
        Effect.map(Effect.option(Effect.currentSpan), (span) => ({
          text: Option.match(span, { onNone: () => "none", onSome: (span) => span.traceId }),
          when: Option.none()
        }))
      )
      const inTrace = (yield* run(layer, "{\"name\":\"x\"}", traceparent)) as { readonly value: string }
      assert.include(inTrace.value, "0af7651916cd43dd8448eb211c80319c")
      for (const rubbish of ["", "00-xyz", "'; DROP TABLE x", `${traceparent}-more`]) {
        const ended = (yield* run(layer, "{\"name\":\"x\"}", rubbish)) as { readonly value: string }
        assert.include(ended.value, "none", rubbish)
      }
    }))
})

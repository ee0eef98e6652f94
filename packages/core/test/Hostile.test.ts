/** Handlers and policies that no compiler has seen, beside others. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broker, Handler, InProcessRunner, MemoryBroker, Supervisor, Task, TaskError, Worker } from "../src/index.ts"

class Unprintable extends Schema.TaggedError<Unprintable>()("Unprintable", {}) {
  override get message(): string {
    throw new Error("not to be read")
  }
}

const { proxy, revoke } = Proxy.revocable({}, {})
revoke()

class Promising extends Task.make("Promising", { success: Schema.Int, retry: { attempts: 1 } }) {}
class Fine extends Task.make("Fine", { success: Schema.Int }) {}
class Failing extends Task.make("Failing", {
  payload: { which: Schema.Int },
  error: Schema.String,
  retry: {
    while: () => {
      throw hostile[which++ % hostile.length]
    }
  }
}) {}

let which = 0
const hostile: ReadonlyArray<unknown> = [
  new Unprintable(),
  proxy,
  Object.defineProperty(new Error("told"), "cause", {
    get() {
      throw new Error("not to be read")
    }
  }),
  {
    toString: () => {
      throw new Error("not to be read")
    }
  }
]

/** How an attempt of this handler ends. */
const endOf = (handler: Effect.Effect<any, any>) => {
  const Ending = Task.make("Ending", {
    success: Schema.Record(Schema.String, Schema.Unknown),
    error: Schema.Struct({ a: Schema.Int })
  })
  const input = { executionId: "0190-a", queue: "default", attempt: 1, payload: "null", traceparent: Option.none() }
  return Effect.flatMap(Effect.service(Handler.key("Ending")), (service) => service.run(input)).pipe(
    Effect.exit,
    Effect.map((exit) => Handler.endOf(exit, false, () => {})),
    Effect.provide(Ending.toLayer(() => handler))
  )
}

const worker = Worker.make({
  tasks: [Promising, Fine, Failing],
  handlers: Layer.mergeAll(
    Promising.toLayer(() => Promise.resolve(1) as unknown as Effect.Effect<number>),
    Fine.toLayer(() => Effect.succeed(1)),
    Failing.toLayer(() => Effect.fail("no"))
  )
})

describe("Hostile", () => {
  it.effect("ends an attempt that succeeds, fails or dies with what cannot be looked at", () =>
    Effect.gen(function*() {
      const things = [
        ...hostile,
        new Proxy({}, { get: () => proxy, getPrototypeOf: () => proxy as object, ownKeys: () => [] })
      ]
      for (const thing of things) {
        for (
          const handler of [Effect.succeed(thing), Effect.fail(thing), Effect.die(thing), Effect.fail({ a: thing })]
        ) {
          const ended = yield* endOf(handler)
          assert(ended._tag === "Died" && "detail" in ended.reason, ended._tag)
          assert.isAbove(TaskError.describe(ended.reason).length, 0)
        }
      }
    }))

  it.effect("ends an attempt whose retry policy throws what cannot be told", () =>
    Effect.gen(function*() {
      const supervisor = yield* Effect.forkChild(
        Supervisor.run({ worker, concurrency: 5 }).pipe(Effect.provide(InProcessRunner.layer(worker)))
      )
      for (let n = 0; n < hostile.length; n++) {
        const execution = yield* Task.enqueue(Failing, { which: n })
        yield* TestClock.adjust("20 seconds")
        assert.strictEqual(yield* Effect.flip(execution.await), "no")
      }
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  for (const [name, runner] of [["layer", InProcessRunner.layer], ["layerSync", InProcessRunner.layerSync]] as const) {
    it.effect(`goes on beside a handler that returns a promise, by ${name}`, () =>
      Effect.gen(function*() {
        const supervisor = yield* Effect.forkChild(
          Supervisor.run({ worker, concurrency: 5 }).pipe(Effect.provide(runner(worker)))
        )
        const promising = yield* Task.enqueue(Promising)
        const fine = yield* Task.enqueueAll(Fine, [undefined, undefined])
        yield* TestClock.adjust("20 seconds")
        const error = yield* Effect.flip(promising.await)
        assert.include(error.message, "the handler returned a promise and not an Effect")
        for (const execution of fine) assert.strictEqual(yield* execution.await, 1)
        const broker = yield* Broker.Broker
        assert.lengthOf(yield* broker.attempts(promising.id), 1)
        yield* Fiber.interrupt(supervisor)
      }).pipe(Effect.provide(MemoryBroker.layer)))
  }
})

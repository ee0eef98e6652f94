/** A supervisor beside queues and tasks that are paused. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broker, InProcessRunner, MemoryBroker, Supervisor, Task, Worker } from "../src/index.ts"

class Paused extends Task.make("Paused", { payload: { n: Schema.Int }, queue: "slow" }) {}
class Other extends Task.make("Other", { payload: { n: Schema.Int }, queue: "quick" }) {}
class Long extends Task.make("Long", { payload: { n: Schema.Int }, queue: "slow" }) {}

const worker = Worker.make({
  tasks: [Paused, Other, Long],
  handlers: Layer.mergeAll(
    Paused.toLayer(() => Effect.void),
    Other.toLayer(() => Effect.void),
    Long.toLayer(() => Effect.sleep("30 seconds"))
  )
})

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

const states = (executions: ReadonlyArray<{ readonly id: string }>) =>
  Effect.flatMap(
    Broker.Broker,
    (broker) =>
      Effect.forEach(executions, ({ id }) => Effect.map(broker.read(id), (record) => Option.getOrThrow(record).state))
  )

const all = (count: number, state: string) => Array.from({ length: count }, () => state)

/** Runs the body beside a supervisor, and counts its claims. */
const serve = <A, E>(
  body: (broker: Broker.Broker["Service"], claims: () => number) => Effect.Effect<A, E, Broker.Broker>
) =>
  Effect.gen(function*() {
    const real = yield* Broker.Broker
    let claims = 0
    const counting = Broker.Broker.of({
      ...real,
      claim: (options) => {
        claims++
        return real.claim(options)
      }
    })
    const supervisor = yield* Supervisor.run({ worker, concurrency: 5 }).pipe(
      Effect.provideService(Broker.Broker, counting),
      Effect.provide(InProcessRunner.layer(worker)),
      Effect.forkChild
    )
    yield* TestClock.adjust("1 second")
    yield* body(real, () => claims)
    yield* Fiber.interrupt(supervisor)
  }).pipe(Effect.provide(MemoryBroker.layer))

describe("Pauses", () => {
  it.effect("keep a queue waiting while others go on, and let it go on when it is resumed, the second time too", () =>
    serve((broker) =>
      Effect.gen(function*() {
        for (let again = 0; again < 2; again++) {
          yield* broker.pause({ queue: "slow" })
          yield* TestClock.adjust("1 second")
          const paused = yield* Task.enqueueAll(Paused, numbers(20))
          const others = yield* Task.enqueueAll(Other, numbers(20))
          yield* TestClock.adjust("10 minutes")
          assert.deepStrictEqual(yield* states(paused), all(20, "queued"))
          assert.deepStrictEqual(yield* states(others), all(20, "succeeded"))
          yield* broker.resume({ queue: "slow" })
          yield* TestClock.adjust("1 second")
          assert.deepStrictEqual(yield* states(paused), all(20, "succeeded"))
        }
      })
    ))

  it.effect("of all cost nothing but ticks", () =>
    serve((broker, claims) =>
      Effect.gen(function*() {
        yield* broker.pause({ queue: "slow" })
        yield* broker.pause({ queue: "quick" })
        yield* Task.enqueueAll(Paused, numbers(20))
        yield* Task.enqueueAll(Other, numbers(20))
        yield* TestClock.adjust("1 second")
        const before = claims()
        yield* TestClock.adjust("10 minutes")
        assert.strictEqual(claims(), before)
      })
    ))

  it.effect("give back what was claimed ahead, and let run what runs", () =>
    serve((broker) =>
      Effect.gen(function*() {
        const executions = yield* Task.enqueueAll(Long, numbers(30))
        yield* TestClock.adjust("1 second")
        yield* broker.pause({ task: "Long" })
        yield* TestClock.adjust("1 second")
        const now = yield* states(executions)
        assert.strictEqual(now.filter((state) => state === "running").length, 5)
        assert.strictEqual(now.filter((state) => state === "queued").length, 25)
        yield* TestClock.adjust("2 minutes")
        assert.strictEqual((yield* states(executions)).filter((state) => state === "succeeded").length, 5)
      })
    ))
})

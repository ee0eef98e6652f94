/** How a supervisor ends, and how it goes on: drains, outages and lapsed leases. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Latch, Option, Ref } from "effect"
import { TestClock } from "effect/testing"
import { Broker, BrokerError, InProcessRunner, MemoryBroker, Runner, Supervisor, Task } from "../../src/index.ts"
import { tickAndKeepUp } from "../brokerSuite/kit.ts"
import { Double, Sleep, makeSeen, workerOf, attemptsOf, stateOf, untilState } from "./fixtures.ts"

describe("Supervisor: shifts", () => {
  it.effect("drains on interruption: what fits finishes, the rest goes back uncounted", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const supervisor = yield* Effect.forkChild(Effect.provide(
        Supervisor.run({ worker, concurrency: 10, drain: "5 seconds" }),
        InProcessRunner.layer(worker)
      ))
      const short = yield* Task.enqueue(Sleep, { millis: 3_000 })
      const long = yield* Task.enqueue(Sleep, { millis: 50_000 })
      yield* untilState(short.id, "running")
      yield* untilState(long.id, "running")
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("1 second")
      const late = yield* Task.enqueue(Double, { n: 1 })
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(stopping)
      assert.strictEqual(yield* stateOf(short.id), "succeeded")
      assert.strictEqual(yield* stateOf(long.id), "queued")
      assert.strictEqual(yield* stateOf(late.id), "queued")
      const attempts = yield* attemptsOf(long.id)
      assert.deepStrictEqual(attempts.map((attempt) => attempt.outcome), ["released"])
      const record = Option.getOrThrow(yield* Effect.flatMap(Broker.Broker, (broker) => broker.read(long.id)))
      assert.strictEqual(record.attempts, 0)
      assert.strictEqual(record.losses, 0)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("goes on by itself when the broker was away", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const away = yield* Ref.make(false)
      const unavailable = new BrokerError.BrokerError({
        reason: new BrokerError.Unavailable({ operation: "test", detail: "cut" })
      })
      const flaky = <A>(effect: Effect.Effect<A, BrokerError.BrokerError>) =>
        Effect.flatMap(Ref.get(away), (away) => away ? Effect.fail(unavailable) : effect)
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) => flaky(real.claim(options)),
        settle: (id, settlements) => flaky(real.settle(id, settlements)),
        tick: (options) => flaky(real.tick(options))
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const running = yield* Task.enqueue(Sleep, { millis: 2_000 })
      yield* untilState(running.id, "running")
      yield* Ref.set(away, true)
      const later = yield* Task.enqueue(Double, { n: 3 })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* stateOf(running.id), "running")
      yield* Ref.set(away, false)
      yield* untilState(running.id, "succeeded")
      yield* untilState(later.id, "succeeded")
      assert.lengthOf(yield* attemptsOf(running.id), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("lets its runner forget the ends that a lapsed lease kept from being recorded", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const real = yield* Broker.Broker
      const runner = yield* Effect.provide(Runner.Runner, InProcessRunner.layer(worker))
      const reachable = yield* Latch.make(true)
      const forgotten: Array<string> = []
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, lease: "10 seconds" }).pipe(
        Effect.provideService(
          Broker.Broker,
          Broker.Broker.of({
            ...real,
            tick: (options) => reachable.whenOpen(real.tick(options)),
            settle: (supervisor, settlements) => reachable.whenOpen(real.settle(supervisor, settlements))
          })
        ),
        Effect.provideService(
          Runner.Runner,
          Runner.Runner.of({
            ...runner,
            acknowledge: (attempts) =>
              Effect.sync(() => forgotten.push(...attempts.map(({ execution, fence }) => `${execution} ${fence}`)))
          })
        ),
        Effect.forkChild
      )
      // One that is being recorded, and one that waits for that.
      const first = yield* Task.enqueue(Sleep, { millis: 1_000 })
      const second = yield* Task.enqueue(Sleep, { millis: 2_000 })
      yield* untilState(first.id, "running")
      yield* untilState(second.id, "running")
      yield* reachable.close
      yield* real.register({ supervisor: "other", label: "other", lanes: [], lease: Duration.minutes(5) })
      yield* TestClock.adjust("15 seconds")
      yield* tickAndKeepUp(real, { supervisor: "other", lanes: [], lease: Duration.minutes(5) })
      yield* untilState(first.id, "queued")
      yield* untilState(second.id, "queued")
      yield* reachable.open
      yield* untilState(first.id, "succeeded")
      yield* untilState(second.id, "succeeded")
      assert.includeMembers(forgotten, [first, second].map(({ id }) => `${id} 1`))
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("abandons what it ran when its lease lapsed, and begins again under another id", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const thawed = yield* Latch.make(true)
      const broker = Broker.Broker.of({
        ...real,
        tick: (options) => thawed.whenOpen(real.tick(options))
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, lease: "10 seconds" }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Sleep, { millis: 40_000 })
      yield* untilState(execution.id, "running")
      // Another supervisor reaps while this one says nothing.
      yield* thawed.close
      yield* real.register({ supervisor: "other", label: "other", lanes: [], lease: Duration.minutes(5) })
      yield* TestClock.adjust("11 seconds")
      yield* tickAndKeepUp(real, { supervisor: "other", lanes: [], lease: Duration.minutes(5) })
      yield* untilState(execution.id, "queued")
      yield* thawed.open
      yield* untilState(execution.id, "succeeded")
      const attempts = yield* attemptsOf(execution.id)
      assert.deepStrictEqual(attempts.map((attempt) => attempt.outcome), ["lost", "succeeded"])
      assert.isBelow(attempts[0]!.fence, attempts[1]!.fence)
      assert.strictEqual(yield* Ref.get(seen.interrupted), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

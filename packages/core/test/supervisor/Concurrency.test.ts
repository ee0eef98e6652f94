/** Which attempts run side by side, and when. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Option, Ref } from "effect"
import { TestClock } from "effect/testing"
import { Broker, InProcessRunner, MemoryBroker, Outcome, Runner, Supervisor, Task, TaskError } from "../../src/index.ts"
import {
  Double,
  Sleep,
  Stubborn,
  endless,
  makeSeen,
  workerOf,
  serve,
  attemptsOf,
  stateOf,
  untilState,
  loseTwice
} from "./fixtures.ts"

describe("Supervisor: concurrency", () => {
  it.effect("never runs more attempts than its concurrency", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const executions = yield* Task.enqueueAll(Sleep, Array.from({ length: 20 }, () => ({ millis: 1_000 })))
        yield* Effect.forEach(executions, (execution) => untilState(execution.id, "succeeded"), { discard: true })
        assert.strictEqual(yield* Ref.get(seen.most), 3)
      }), { concurrency: 3 }))

  it.effect("runs one at a time with the sync runner, whatever the concurrency", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const executions = yield* Task.enqueueAll(Sleep, Array.from({ length: 5 }, () => ({ millis: 500 })))
        yield* Effect.forEach(executions, (execution) => untilState(execution.id, "succeeded"), { discard: true })
        assert.strictEqual(yield* Ref.get(seen.most), 1)
      }), { concurrency: 10, sync: true }))

  it.effect("runs delayed executions when they are due", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Double, { n: 4 }, { delay: "90 seconds" })
        yield* TestClock.adjust("89 seconds")
        assert.strictEqual(yield* stateOf(execution.id), "queued")
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* execution.await, 8)
      })
    ))

  it.effect("pauses before it asks again for a place that no attempt got", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const asked = yield* Ref.make(0)
      const nowhere = Runner.Runner.of({
        name: "nowhere",
        supports: () => true,
        isolatesSuspects: () => true,
        pool: () => endless,
        listen: () => Effect.void,
        run: () =>
          Effect.as(
            Ref.update(asked, (n) => n + 1),
            Outcome.Ended.Lost({ reason: new TaskError.Lost({ detail: "no host starts" }), collateral: true })
          ),
        acknowledge: () => Effect.void
      })
      const supervisor = yield* Supervisor.run({ worker: workerOf(seen), concurrency: 10 }).pipe(
        Effect.provideService(Runner.Runner, nowhere),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Double, { n: 1 })
      for (let step = 0; step < 100; step++) yield* TestClock.adjust("100 millis")
      const times = yield* Ref.get(asked)
      assert.isTrue(times >= 5 && times <= 11, `asked ${times} times in ten seconds`)
      const record = Option.getOrThrow(yield* Effect.flatMap(Broker.Broker, (broker) => broker.read(execution.id)))
      assert.strictEqual(record.losses, 0)
      assert.strictEqual(record.attempts, 0)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("lets others pass a suspect that waits to run alone, then runs it alone", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const suspect = yield* Task.enqueue(Sleep, { millis: 5_000 })
      yield* loseTwice("Sleep")
      const long = yield* Task.enqueue(Sleep, { millis: 20_000 }, { priority: 9 })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* untilState(long.id, "running")
      yield* untilState(suspect.id, "running")
      const other = yield* Task.enqueue(Double, { n: 1 })
      yield* untilState(other.id, "succeeded")
      assert.strictEqual(yield* stateOf(long.id), "running")
      yield* untilState(suspect.id, "succeeded")
      assert.strictEqual(yield* stateOf(long.id), "succeeded")
      assert.strictEqual(yield* Ref.get(seen.most), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("lets others start when a suspect will not stop", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const suspect = yield* Task.enqueue(Stubborn)
      yield* loseTwice("Stubborn")
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, drain: "1 second" }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* untilState(suspect.id, "running")
      const other = yield* Task.enqueue(Double, { n: 4 })
      yield* untilState(suspect.id, "failed")
      yield* untilState(other.id, "succeeded")
      const [last] = (yield* attemptsOf(suspect.id)).slice(-1)
      assert.deepStrictEqual([last?.outcome, last?.confirmed], ["timed_out", false])
      yield* Deferred.succeed(seen.release, undefined)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("does not let a suspect wait for an attempt that will not stop, and others for the suspect", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const broker = yield* Broker.Broker
      const suspect = yield* Task.enqueue(Sleep, { millis: 1_000 })
      yield* loseTwice("Sleep")
      yield* broker.pause({ task: "Sleep" })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, drain: "1 second" }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const stubborn = yield* Task.enqueue(Stubborn)
      yield* untilState(stubborn.id, "failed")
      yield* broker.resume({ task: "Sleep" })
      yield* untilState(suspect.id, "succeeded")
      const other = yield* Task.enqueue(Double, { n: 4 })
      yield* untilState(other.id, "succeeded")
      yield* Deferred.succeed(seen.release, undefined)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

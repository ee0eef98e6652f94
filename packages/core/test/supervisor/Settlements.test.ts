/** What is settled at once, and what is told of it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { TestClock } from "effect/testing"
import { Broker, InProcessRunner, MemoryBroker, Outcome, Runner, Supervisor, Task, TaskError } from "../../src/index.ts"
import { Double, Sleep, endless, makeSeen, stateOf, workerOf, untilState } from "./fixtures.ts"

describe("Supervisor: settlements", () => {
  it.effect("settles no more at once than a statement should carry, and a larger result alone", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const real = yield* Broker.Broker
      const mebibyte = 1024 * 1024
      const batches: Array<ReadonlyArray<number>> = []
      const broker = Broker.Broker.of({
        ...real,
        settle: (supervisor, settlements) => {
          batches.push(settlements.map(({ outcome }) => "result" in outcome ? outcome.result.length : 0))
          return real.settle(supervisor, settlements)
        }
      })
      const large = Runner.Runner.of({
        name: "large",
        supports: () => true,
        isolatesSuspects: () => true,
        pool: () => endless,
        listen: () => Effect.void,
        run: ({ payload }) =>
          Effect.succeed(Outcome.Ended.Succeeded({ value: "1".repeat(JSON.parse(payload).millis) })),
        acknowledge: () => Effect.void
      })
      const sizes = [...Array.from({ length: 11 }, () => 3 * mebibyte), 20 * mebibyte]
      const executions = yield* Task.enqueueAll(Sleep, sizes.map((millis) => ({ millis })))
      const supervisor = yield* Supervisor.run({ worker: workerOf(seen), concurrency: 20 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provideService(Runner.Runner, large),
        Effect.forkChild
      )
      // The last one is more than a row can carry, which only its settlement finds out.
      const largest = executions.at(-1)!
      yield* Effect.forEach(executions.slice(0, -1), ({ id }) => untilState(id, "succeeded"), { discard: true })
      yield* untilState(largest.id, "failed")
      const error = yield* Effect.flip(largest.await)
      assert.strictEqual(error._tag === "TaskError" && error.reason._tag, "ResultTooLarge")
      for (const batch of batches) {
        assert.isTrue(batch.length === 1 || batch.reduce((sum, size) => sum + size, 0) <= 16 * mebibyte)
      }
      assert.strictEqual(batches.flat().length, sizes.length)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("says which executions are quarantined and why, and stops when there are too many", () => {
    const lines: Array<{ readonly message: string; readonly annotations: { readonly [name: string]: unknown } }> = []
    const logger = Logger.map(
      Logger.formatStructured,
      ({ annotations, level, message }) =>
        level === "WARN" && void lines.push({ message: String(message), annotations })
    )
    return Effect.gen(function*() {
      const reason = new TaskError.Lost({ detail: "host died: exit 137" })
      const deadly = Runner.Runner.of({
        name: "deadly",
        supports: () => true,
        isolatesSuspects: () => true,
        pool: () => endless,
        listen: () => Effect.void,
        run: (attempt) =>
          Effect.sync(() => {
            attempt.onStart({ host: "host", node: "node", pid: 1 })
            return Outcome.Ended.Lost({ reason, collateral: false })
          }),
        acknowledge: () => Effect.void
      })
      const supervisor = yield* Supervisor.run({ worker: workerOf(yield* makeSeen), concurrency: 20 }).pipe(
        Effect.provideService(Runner.Runner, deadly),
        Effect.forkChild
      )
      const first = yield* Task.enqueue(Sleep, { millis: 0 })
      yield* untilState(first.id, "lost")
      const quarantined = lines.filter(({ message }) => message.startsWith("an execution is quarantined"))
      assert.lengthOf(quarantined, 1)
      const { execution, losses, reason: words, task } = quarantined[0]!.annotations
      assert.deepStrictEqual([task, execution, losses], ["Sleep", first.id, 3])
      assert.include(String(words), "exit 137")
      const others = yield* Task.enqueueAll(Sleep, Array.from({ length: 150 }, () => ({ millis: 0 })))
      yield* Effect.forEach(others, ({ id }) => untilState(id, "lost"), { discard: true })
      const told = lines.filter(({ message }) => message.includes("quarantined") || message.startsWith("more than 60"))
      // The minute may end meanwhile.
      assert.isAtMost(told.length, 122)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer), Effect.provide(Logger.layer([logger])))
  })

  it.effect("counts the payloads that a settlement moves to history", () =>
    Effect.gen(function*() {
      const real = yield* Broker.Broker
      const batches: Array<number> = []
      const padding = " ".repeat(1.75 * 1024 * 1024)
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) =>
          Effect.map(
            real.claim(options),
            (claimed) => claimed.map((one) => ({ ...one, payload: `${one.payload}${padding}` }))
          ),
        settle: (supervisor, settlements) => {
          batches.push(settlements.length)
          return real.settle(supervisor, settlements)
        }
      })
      const executions = yield* Task.enqueueAll(Sleep, Array.from({ length: 20 }, () => ({ millis: 0 })))
      const worker = workerOf(yield* makeSeen)
      const supervisor = yield* Supervisor.run({ worker, concurrency: 20 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* Effect.forEach(executions, ({ id }) => untilState(id, "succeeded"), { discard: true })
      assert.strictEqual(batches.reduce((sum, size) => sum + size, 0), 20)
      assert.isAtMost(Math.max(...batches), 9)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("are recorded if their lock ends while their worker leaves", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const broker = yield* Broker.Broker
      let isLocked = true
      const locking: Broker.Broker["Service"] = {
        ...broker,
        settle: (supervisor, settlements) =>
          Effect.suspend(() =>
            isLocked
              ? Effect.succeed(settlements.map(() => "Locked" as const))
              : broker.settle(supervisor, settlements)
          ),
        unregister: (supervisor) => {
          isLocked = false
          return Effect.andThen(Effect.sleep("300 millis"), broker.unregister(supervisor))
        }
      }
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, drain: "1 second" }).pipe(
        Effect.provideService(Broker.Broker, locking),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Double, { n: 4 })
      yield* untilState(execution.id, "running")
      yield* TestClock.adjust("500 millis")
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      for (let step = 0; step < 200; step++) yield* TestClock.adjust("100 millis")
      yield* Fiber.join(stopping)
      assert.strictEqual(yield* stateOf(execution.id), "succeeded")
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

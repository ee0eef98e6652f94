/** A supervisor that is stopped while its broker is away or slow, and one that begins beside a pause. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Latch, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broker, InProcessRunner, MemoryBroker, Supervisor, Task, Worker } from "../src/index.ts"
import { tickAndKeepUp } from "./brokerSuite/kit.ts"

class Long extends Task.make("Long", { payload: { seconds: Schema.Int }, success: Schema.Int }) {}

let interrupted = 0

const worker = Worker.make({
  tasks: [Long],
  handlers: Long.toLayer(({ seconds }) =>
    Effect.as(Effect.sleep(`${seconds} seconds`), seconds).pipe(
      Effect.onInterrupt(() => Effect.sync(() => interrupted++))
    )
  )
})

const supervise = (broker: Broker.Broker["Service"], options: Partial<Supervisor.Options> = {}) =>
  Supervisor.run({ worker, concurrency: 2, lease: "10 seconds", drain: "10 minutes", ...options }).pipe(
    Effect.provideService(Broker.Broker, broker),
    Effect.provide(InProcessRunner.layer(worker)),
    Effect.forkChild
  )

const stateOf = (id: string) =>
  Effect.flatMap(Broker.Broker, (broker) => Effect.map(broker.read(id), (record) => Option.getOrThrow(record).state))

const pass = (seconds: number) =>
  Effect.forEach(Array.from({ length: seconds }), () => TestClock.adjust("1 second"), { discard: true })

describe("Drains", () => {
  it.effect("abandon what runs when the lease lapses meanwhile, and end", () =>
    Effect.gen(function*() {
      const real = yield* Broker.Broker
      const answers = yield* Latch.make(true)
      const supervisor = yield* supervise({ ...real, tick: (options) => answers.whenOpen(real.tick(options)) })
      const execution = yield* Task.enqueue(Long, { seconds: 500 })
      yield* pass(2)
      assert.strictEqual(yield* stateOf(execution.id), "running")
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* answers.close
      yield* pass(20)
      const lanes = [{ queue: "default", task: "Long" }]
      yield* real.register({ supervisor: "other", label: "other", lanes, lease: Duration.hours(1) })
      yield* tickAndKeepUp(real, { supervisor: "other", lanes, lease: Duration.hours(1) })
      assert.strictEqual(yield* stateOf(execution.id), "queued")
      const before = interrupted
      yield* answers.open
      yield* pass(15)
      assert.strictEqual(interrupted, before + 1)
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("give back at once what a claim brings that was under way", () =>
    Effect.gen(function*() {
      const real = yield* Broker.Broker
      const answers = yield* Latch.make(true)
      const supervisor = yield* supervise(
        { ...real, claim: (options) => Effect.tap(real.claim(options), () => answers.await) },
        { concurrency: 3, lease: "1 minute" }
      )
      const running = yield* Task.enqueue(Long, { seconds: 500 })
      yield* pass(2)
      yield* answers.close
      const others = yield* Task.enqueueAll(Long, [{ seconds: 1 }, { seconds: 1 }])
      yield* pass(1)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* pass(1)
      yield* answers.open
      yield* pass(2)
      assert.strictEqual(yield* stateOf(running.id), "running")
      for (const { id } of others) assert.strictEqual(yield* stateOf(id), "queued")
      yield* pass(600)
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("are no reason to run what was paused before: a supervisor claims once a tick has told", () =>
    Effect.gen(function*() {
      const real = yield* Broker.Broker
      const lanes: Array<ReadonlyArray<Broker.Lane>> = []
      yield* real.pause({ queue: "default" })
      const supervisor = yield* supervise({
        ...real,
        claim: (options) => {
          lanes.push(options.lanes)
          return real.claim(options)
        }
      })
      const execution = yield* Task.enqueue(Long, { seconds: 1 })
      yield* pass(30)
      assert.deepStrictEqual(lanes, [])
      assert.strictEqual(yield* stateOf(execution.id), "queued")
      yield* real.resume({ queue: "default" })
      yield* pass(5)
      assert.strictEqual(yield* execution.await, 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

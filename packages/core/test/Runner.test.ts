/** Several runners under one supervisor. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import { Broker, MemoryBroker, Outcome, Runner, Supervisor, Task, Worker } from "../src/index.ts"

class Here extends Task.make("Here", { payload: { n: Schema.Int }, success: Schema.String }) {}
class There extends Task.make("There", { payload: { n: Schema.Int }, success: Schema.String }) {}
class Nowhere extends Task.make("Nowhere") {}

const worker = Worker.make({
  tasks: [Here, There, Nowhere],
  handlers: Layer.mergeAll(
    Here.toLayer(() => Effect.succeed("")),
    There.toLayer(() => Effect.succeed("")),
    Nowhere.toLayer(() => Effect.void)
  )
})

/** A runner for one task, which says its name. */
const makeRunner = (name: string, tag: string, limit: number) => {
  const state = { most: 0, running: 0, acknowledged: 0, hear: () => {} }
  const service = Runner.Runner.of({
    name,
    supports: ({ _tag }) => _tag === tag,
    isolatesSuspects: () => name === "first",
    pool: () => ({ limit, closed: undefined }),
    listen: (hear) =>
      Effect.sync(() => {
        state.hear = hear
      }),
    run: (attempt) =>
      Effect.gen(function*() {
        attempt.onStart({ host: name, node: "node", pid: 1 })
        state.most = Math.max(state.most, ++state.running)
        yield* Effect.interruptible(Effect.sleep("1 second"))
        state.running--
        return Outcome.Ended.Succeeded({ value: JSON.stringify(name) })
      }),
    acknowledge: (attempts) =>
      Effect.sync(() => {
        state.acknowledged += attempts.length
      })
  })
  return { state, service }
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

describe("Runner.route", () => {
  it.effect("runs each task where it is supported, within what that has room for, and tells all what is recorded", () =>
    Effect.gen(function*() {
      const [first, second] = [makeRunner("first", "Here", 2), makeRunner("second", "There", 5)]
      const routed = Runner.route([first.service, second.service])
      assert.strictEqual(routed.name, "first and second")
      const supervisor = yield* Supervisor.run({ worker, concurrency: 20 }).pipe(
        Effect.provideService(Runner.Runner, routed),
        Effect.forkChild
      )
      const here = yield* Task.enqueueAll(Here, numbers(10))
      const there = yield* Task.enqueueAll(There, numbers(10))
      const nowhere = yield* Task.enqueue(Nowhere)
      for (let seconds = 0; seconds < 12; seconds++) yield* TestClock.adjust("1 second")
      for (const execution of here) assert.strictEqual(yield* execution.await, "first")
      for (const execution of there) assert.strictEqual(yield* execution.await, "second")
      assert.deepStrictEqual([first.state.most, second.state.most], [2, 5])
      assert.deepStrictEqual([first.state.acknowledged, second.state.acknowledged], [20, 20])
      const broker = yield* Broker.Broker
      assert.strictEqual(Option.getOrThrow(yield* broker.read(nowhere.id)).state, "queued")
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("asks the task's own runner about suspects, and hears of the pools of all", () =>
    Effect.gen(function*() {
      const [first, second] = [makeRunner("first", "Here", 1), makeRunner("second", "There", 1)]
      const routed = Runner.route([first.service, second.service])
      assert.deepStrictEqual([Here, There].map((task) => routed.isolatesSuspects(task)), [true, false])
      assert.deepStrictEqual([Here, There, Nowhere].map((task) => routed.supports(task)), [true, true, false])
      let heard = 0
      yield* routed.listen(() => heard++)
      first.state.hear()
      second.state.hear()
      assert.strictEqual(heard, 2)
    }).pipe(Effect.scoped))
})

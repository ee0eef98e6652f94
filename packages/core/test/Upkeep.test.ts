/** Duties of a broker, done by its supervisors. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Logger, Option } from "effect"
import { TestClock } from "effect/testing"
import { Broker, BrokerError, InProcessRunner, MemoryBroker, Supervisor, Task, Worker } from "../src/index.ts"
import { maxParts } from "../src/internal/upkeep.ts"

class Quick extends Task.make("Quick") {}

const worker = Worker.make({ tasks: [Quick], handlers: Quick.toLayer(() => Effect.void) })

const broken = new BrokerError.BrokerError({
  reason: new BrokerError.Unavailable({ operation: "test", detail: "not now" })
})

/** Runs supervisors over a broker that has these duties too, for a while. */
const serve = Effect.fnUntraced(function*(duties: ReadonlyArray<Broker.Duty>, supervisors: number, minutes: number) {
  const real = yield* Broker.Broker
  const broker = Broker.Broker.of({ ...real, duties: [...real.duties, ...duties] })
  const fibers = yield* Effect.forEach(
    Array.from({ length: supervisors }),
    () =>
      Effect.forkChild(
        Supervisor.run({ worker, concurrency: 1, lease: "10 seconds" }).pipe(
          Effect.provideService(Broker.Broker, broker),
          Effect.provide(InProcessRunner.layer(worker))
        )
      )
  )
  for (let seconds = 0; seconds < minutes * 60; seconds++) yield* TestClock.adjust("1 second")
  const execution = yield* Task.enqueue(Quick)
  yield* TestClock.adjust("10 seconds")
  assert.strictEqual(Option.getOrThrow(yield* real.read(execution.id)).state, "succeeded")
  yield* Fiber.interruptAll(fibers)
})

describe("Upkeep", () => {
  it.effect("does a duty once in its interval, again and again, however many supervisors there are", () =>
    Effect.gen(function*() {
      let turns = 0
      const perform = Effect.sync(() => ++turns < 0)
      yield* serve([{ name: "counted", interval: Duration.minutes(1), perform }], 5, 10)
      // Each turn waits for the next tick of one of them.
      assert.isAtLeast(turns, 9)
      assert.isAtMost(turns, 11)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("tells of a duty that fails, tries it again in its next turn, and lets others go on", () => {
    const lines: Array<string> = []
    const logger = Logger.map(Logger.formatStructured, (line) => void lines.push(String(line.message)))
    return Effect.gen(function*() {
      let [tried, done] = [0, 0]
      yield* serve(
        [
          {
            name: "failing",
            interval: Duration.minutes(1),
            perform: Effect.suspend(() => (tried++, Effect.fail(broken)))
          },
          { name: "working", interval: Duration.minutes(1), perform: Effect.sync(() => done++ < 0) }
        ],
        1,
        3
      )
      assert.isAtLeast(tried, 3)
      assert.isAtLeast(done, 3)
      assert.lengthOf(lines.filter((line) => line.includes("the upkeep failed") && line.includes("not now")), tried)
    }).pipe(Effect.provide(MemoryBroker.layer), Effect.provide(Logger.layer([logger])))
  })

  it.effect("bounds a turn, and keeps no lease waiting for a duty that never ends", () =>
    Effect.gen(function*() {
      let parts = 0
      yield* serve(
        [
          { name: "endless", interval: Duration.hours(1), perform: Effect.sync(() => ++parts > 0) },
          { name: "stuck", interval: Duration.minutes(1), perform: Effect.never }
        ],
        1,
        5
      )
      assert.strictEqual(parts, maxParts)
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

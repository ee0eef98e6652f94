/** Activities, deferreds and clocks. */
import { assert } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import * as DurableClock from "effect/workflow/DurableClock"
import * as DurableDeferred from "effect/workflow/DurableDeferred"
import type * as Workflow from "effect/workflow/Workflow"
import { begin, liveOver, makeSteps, type Stores, untilState, workflow } from "./kit.ts"

const Text = DurableDeferred.make("text", { success: Schema.String, error: Schema.String })

const tokenOf = (deferred: DurableDeferred.Any, flow: Workflow.Any, executionId: string) =>
  DurableDeferred.tokenFromExecutionId(deferred as typeof Text, { workflow: flow as never, executionId })

export const stepPromises = (stores: Stores): void => {
  const Flow = workflow("Flow")
  const live = liveOver(stores)

  live(
    "records successes, typed errors, defects and void, and gives a replay the same",
    Effect.gen(function*() {
      const kinds = Effect.gen(function*() {
        const failing = Activity.make({ name: "fails", error: Schema.String, execute: Effect.fail("no") })
        const dying = Activity.make({ name: "dies", execute: Effect.die(new Error("broken")) as Effect.Effect<void> })
        const nothing = Activity.make({ name: "void", execute: Effect.void })
        const date = Activity.make({
          name: "date",
          success: Schema.DateTimeUtc,
          execute: Effect.succeed(DateTime.makeUnsafe(0))
        })
        return [
          yield* Effect.flip(failing),
          String((yield* Effect.exit(dying)) as unknown).includes("broken"),
          (yield* nothing) ?? null,
          DateTime.toEpochMillis(yield* date)
        ]
      })
      const body = Flow.toLayer(Effect.fn(function*() {
        const all = yield* Effect.orDie(
          kinds as Effect.Effect<ReadonlyArray<unknown>, unknown, Effect.Services<typeof kinds>>
        )
        yield* Effect.exit(DurableDeferred.await(Text))
        return all
      }))
      const first = yield* begin(body)
      const id = yield* first.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* untilState(id, "waiting")
      yield* first.kill
      const second = yield* begin(body)
      yield* second.run(DurableDeferred.succeed(Text, { token: tokenOf(Text, Flow, id), value: "" }))
      assert.deepStrictEqual(yield* second.run(Flow.execute({ id: "1" })), ["no", true, null, 0])
    })
  )

  live(
    "numbers the attempts of Activity.retry, and runs each once",
    Effect.gen(function*() {
      const attempts: Array<number> = []
      const flaky = Activity.make({
        name: "flaky",
        success: Schema.Int,
        error: Schema.String,
        execute: Effect.flatMap(Effect.service(Activity.CurrentAttempt), (attempt) => {
          attempts.push(attempt)
          return attempt < 3 ? Effect.fail("no") : Effect.succeed(attempt)
        })
      })
      const process = yield* begin(Flow.toLayer(() => Effect.orDie(Activity.retry(flaky, { times: 5 }))))
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), 3)
      assert.deepStrictEqual(attempts, [1, 2, 3])
    })
  )

  live(
    "retries by a plain schedule, whose delays are in the history",
    Effect.gen(function*() {
      const { log, step } = makeSteps()
      const body = Flow.toLayer(Effect.fn(function*() {
        let attempt = 0
        const flaky = Effect.suspend(() =>
          Effect.flatMap(
            step(`try ${++attempt}`, attempt),
            (attempt) => attempt < 4 ? Effect.fail("no") : Effect.succeed(attempt)
          )
        )
        return yield* Effect.orDie(Effect.retry(flaky, Schedule.exponential("5 millis")))
      }))
      const process = yield* begin(body, { maxResident: 0 })
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), 4)
      assert.deepStrictEqual(log, ["try 1", "try 2", "try 3", "try 4"])
    })
  )

  live(
    "gives the first result to a second step of the same name",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const process = yield* begin(Flow.toLayer(() => Effect.all([step("a", 1), step("a", 2)])))
      assert.deepStrictEqual(yield* process.run(Flow.execute({ id: "1" })), [1, 1])
      assert.strictEqual(count("a"), 1)
    })
  )

  live(
    "runs a step within a step, and neither again in a replay",
    Effect.gen(function*() {
      const { log, step } = makeSteps()
      const outer = Activity.make({
        name: "outer",
        success: Schema.Int,
        execute: Effect.map(step("inner", 1), (inner) => {
          log.push("outer")
          return inner + 1
        })
      })
      const body = Flow.toLayer(Effect.fn(function*() {
        const value = yield* outer
        yield* Effect.exit(DurableDeferred.await(Text))
        return value
      }))
      const process = yield* begin(body, { maxResident: 0 })
      const id = yield* process.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* untilState(id, "waiting")
      yield* process.run(DurableDeferred.succeed(Text, { token: tokenOf(Text, Flow, id), value: "" }))
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), 2)
      assert.deepStrictEqual(log, ["inner", "outer"])
    })
  )

  live(
    "gives steps the process's clock and random numbers, and bodies those of the run",
    Effect.gen(function*() {
      const now = Effect.all([Clock.currentTimeMillis, Random.nextInt])
      const seen: Array<ReadonlyArray<unknown>> = []
      const body = Flow.toLayer(Effect.fn(function*() {
        const before = yield* now
        yield* Activity.make({ name: "outer clock", execute: Effect.map(now, (found) => void seen.push(found)) })
        yield* Effect.sleep("15 millis")
        const after = yield* now
        yield* Effect.exit(DurableDeferred.await(Text))
        return [before, after]
      }))
      const process = yield* begin(body, { maxResident: 0 })
      const began = Date.now()
      const id = yield* process.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* Effect.sleep("40 millis")
      yield* untilState(id, "waiting")
      yield* process.run(DurableDeferred.succeed(Text, { token: tokenOf(Text, Flow, id), value: "" }))
      const [before, after] = (yield* process.run(Flow.execute({ id: "1" }))) as ReadonlyArray<
        readonly [number, number]
      >
      assert.isAtLeast(after![0] - before![0], 15)
      assert.isAtLeast(seen[0]![0] as number, began - 5)
      assert.lengthOf(seen, 1)
    })
  )

  live(
    "keeps the first result of a deferred, also one from before the run",
    Effect.gen(function*() {
      const process = yield* begin(Flow.toLayer(() => Effect.orDie(DurableDeferred.await(Text))))
      const id = yield* Flow.executionId({ id: "1" })
      const succeed = (value: string) =>
        process.run(DurableDeferred.succeed(Text, { token: tokenOf(Text, Flow, id), value }))
      yield* succeed("first")
      yield* succeed("second")
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), "first")
      yield* succeed("third")
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), "first")
    })
  )

  live(
    "wakes a run whose deferred fails, and one that waits inside of a step",
    Effect.gen(function*() {
      const inside = Activity.make({
        name: "inside",
        success: Schema.String,
        error: Schema.String,
        execute: DurableDeferred.await(Text)
      })
      for (const maxResident of [1_000_000, 0]) {
        const process = yield* begin(
          Flow.toLayer(() =>
            Effect.all([Effect.flip(DurableDeferred.await(Text)), Effect.flip(inside)], { concurrency: 2 }).pipe(
              Effect.orDie
            )
          ),
          { maxResident }
        )
        const id = yield* process.run(Flow.execute({ id: `${maxResident}` }, { discard: true }))
        yield* untilState(id, "waiting")
        yield* process.run(DurableDeferred.fail(Text, { token: tokenOf(Text, Flow, id), error: "no" }))
        assert.deepStrictEqual(yield* process.run(Flow.execute({ id: `${maxResident}` })), ["no", "no"])
        yield* process.kill
      }
    })
  )

  live(
    "keeps the winner of a durable race, and that of a plain one",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const body = Flow.toLayer(Effect.fn(function*() {
        const durable = yield* DurableDeferred.raceAll({
          name: "race",
          success: Schema.Any,
          error: Schema.Never,
          effects: [step("slow", "slow", 100), step("fast", "fast", 5)]
        })
        const plain = yield* Effect.race(step("slow 2", "slow", 100), step("fast 2", "fast", 5))
        yield* Effect.exit(DurableDeferred.await(Text))
        return [durable, plain, yield* step(`after ${plain}`, 1)]
      }))
      const process = yield* begin(body, { maxResident: 0 })
      const id = yield* process.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* untilState(id, "waiting")
      yield* process.run(DurableDeferred.succeed(Text, { token: tokenOf(Text, Flow, id), value: "" }))
      assert.deepStrictEqual(yield* process.run(Flow.execute({ id: "1" })), ["fast", "fast", 1])
      assert.deepStrictEqual([count("fast"), count("fast 2")], [1, 1])
    })
  )

  live(
    "sleeps by durable clocks, short and long, and by plain sleeps",
    Effect.gen(function*() {
      for (const maxResident of [1_000_000, 0]) {
        const process = yield* begin(
          Flow.toLayer(Effect.fn(function*() {
            yield* DurableClock.sleep({ name: "short", duration: "10 millis" })
            yield* DurableClock.sleep({ name: "long", duration: "10 millis", inMemoryThreshold: 0 })
            yield* Effect.all([Effect.sleep("10 millis"), Effect.sleep("10 millis"), Effect.sleep("12 millis")], {
              concurrency: 3
            })
            const late = yield* Effect.timeoutOption(Effect.sleep("365 days"), "10 millis")
            return Option.isNone(late)
          })),
          { maxResident }
        )
        assert.isTrue(yield* process.run(Flow.execute({ id: `${maxResident}` })))
        yield* process.kill
      }
    })
  )

  live(
    "does not record a step that was interrupted, and runs it again",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const body = Flow.toLayer(Effect.fn(function*() {
        const first = yield* Effect.timeoutOption(step("slow", 1, 60_000), "200 millis")
        return [Option.isNone(first), yield* Effect.timeoutOption(step("slow", 1, 60_000), "200 millis")]
      }))
      const process = yield* begin(body)
      const exit = yield* Effect.exit(process.run(Flow.execute({ id: "1" })))
      assert.isTrue(Exit.isSuccess(exit))
      assert.strictEqual(count("slow"), 2)
    })
  )

  live(
    "gives a stable idempotency key, with the attempt on request",
    Effect.gen(function*() {
      const keys: Array<string> = []
      const keyed = Activity.make({
        name: "keyed",
        execute: Effect.gen(function*() {
          keys.push(
            yield* Activity.idempotencyKey("pay"),
            yield* Activity.idempotencyKey("pay", { includeAttempt: true })
          )
        })
      })
      const process = yield* begin(Flow.toLayer(() => keyed))
      yield* process.run(Flow.execute({ id: "1" }))
      assert.lengthOf(new Set(keys), 2)
    })
  )

  live(
    "says what is wrong with a result that does not fit its Schema, and with a name that cannot be stored",
    Effect.gen(function*() {
      const Typed = workflow("Typed", { success: Schema.Int })
      const process = yield* begin(Layer.merge(
        Typed.toLayer(() => Effect.succeed("text" as never)),
        Flow.toLayer(() => Activity.make({ name: "a\u0000b", execute: Effect.void }))
      ))
      const typed = yield* Effect.exit(process.run(Typed.execute({ id: "1" })))
      assert.match(String(Exit.isFailure(typed) && typed.cause), /Expected/)
      const named = yield* Effect.exit(process.run(Flow.execute({ id: "1" })))
      assert.match(String(Exit.isFailure(named) && named.cause), /cannot be stored/)
    })
  )

  live(
    "lets what a caller awaits be interrupted without touching the run",
    Effect.gen(function*() {
      const process = yield* begin(Flow.toLayer(() => Effect.orDie(DurableDeferred.await(Text))))
      const caller = yield* Effect.forkChild(process.run(Flow.execute({ id: "1" })), { startImmediately: true })
      const id = yield* Flow.executionId({ id: "1" })
      yield* untilState(id, "waiting")
      yield* Fiber.interrupt(caller)
      yield* process.run(DurableDeferred.succeed(Text, { token: tokenOf(Text, Flow, id), value: "still" }))
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), "still")
    })
  )
}

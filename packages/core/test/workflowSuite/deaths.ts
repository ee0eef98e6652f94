/** Processes that die, and others that go on. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Workflow from "effect/workflow/Workflow"
import * as Replay from "../../src/Replay.ts"
import * as Run from "../../src/Run.ts"
import * as Signal from "../../src/Signal.ts"
import { begin, liveOver, makeSteps, type Stores, untilState, workflow } from "./kit.ts"

class Stop extends Signal.make("Stop") {}

export const deathPromises = (stores: Stores, options: { readonly replays: number }): void => {
  const Flow = workflow("Flow")
  const Child = workflow("Child", { success: Schema.Int })
  const live = liveOver(stores)

  /** Steps in sequence and side by side, a race, a sleep, random numbers, a child, and a compensation that must not run. */
  const bodies = (steps: ReturnType<typeof makeSteps>, undone: Array<string>) =>
    Layer.merge(
      Child.toLayer(() => steps.step("child", 7)),
      Flow.toLayer(Effect.fn(function*() {
        yield* steps.step("first", 1).pipe(
          Workflow.withCompensation(() => Effect.sync(() => void undone.push("first")))
        )
        const all = yield* Effect.all([steps.step("a", 1, 9), steps.step("b", 2, 3), steps.step("c", 3, 6)], {
          concurrency: 3
        })
        const winner = yield* Effect.race(steps.step("slow", "slow", 30), steps.step("fast", "fast", 3))
        yield* Effect.sleep("5 millis")
        const number = yield* Random.nextIntBetween(0, 1_000)
        const child = yield* Child.execute({ id: "1" })
        return [all, yield* steps.step(`${winner} ${number % 2}`, number), child]
      }))
    )

  live(
    "let another one go on, whichever commit they die with: the same result, and no step again that was recorded",
    Effect.gen(function*() {
      const plain = makeSteps()
      const expected = yield* Effect.gen(function*() {
        const process = yield* begin(bodies(plain, []))
        return yield* process.run(Flow.execute({ id: "expected" }))
      })
      for (const isRecorded of [true, false]) {
        for (let commit = 1;; commit++) {
          const steps = makeSteps()
          const undone: Array<string> = []
          const id = `${commit} ${isRecorded}`
          const first = yield* begin(bodies(steps, undone), { dieAt: { commit, isRecorded } })
          const executing = yield* Effect.forkChild(first.run(Flow.execute({ id })), { startImmediately: true })
          const ended = yield* Effect.raceFirst(
            Effect.as(first.died, false),
            Effect.as(Fiber.await(executing), true)
          )
          yield* first.kill
          if (ended) break
          const second = yield* begin(bodies(steps, undone))
          const result = (yield* second.run(Flow.execute({ id }))) as ReadonlyArray<unknown>
          assert.deepStrictEqual(result[0], (expected as ReadonlyArray<unknown>)[0], id)
          assert.deepStrictEqual(undone, [], id)
          // One that ran when the process died may run again: three side by side, and two in the race.
          assert.isAtMost(steps.log.length, new Set(steps.log).size + 3, id)
          yield* second.kill
        }
      }
    })
  )

  live(
    "replay steps side by side in the same way, again and again",
    Effect.gen(function*() {
      const steps = makeSteps()
      let shared = 0
      const chains = Flow.toLayer(Effect.fn(function*() {
        shared = 0
        const all = yield* Effect.forEach(
          Array.from({ length: 50 }, (_, n) => n),
          Effect.fn(function*(n) {
            const first = yield* steps.step(`a${n}`, n, n * 7 % 5)
            // Which chain gets which number depends on the order of what was given before.
            const turn = shared++
            return yield* steps.step(`b${n}:${turn}`, Number(first) + turn, n * 5 % 3)
          }),
          { concurrency: 8 }
        )
        yield* Signal.receive(Stop)
        return all
      }))
      const process = yield* begin(chains, { maxResident: 0 })
      const run = yield* process.run(Run.start(Flow, { id: "1" }))
      yield* untilState(run.id, "waiting")
      const history = yield* process.run(run.history)
      assert.lengthOf(steps.log, 100)
      for (let n = 0; n < options.replays; n++) yield* process.run(Replay.run(Flow, history))
      yield* process.run(run.signal(Stop))
      assert.lengthOf((yield* process.run(run.await)) as ReadonlyArray<unknown>, 50)
      assert.lengthOf(steps.log, 100)
    })
  )

  live(
    "have their stale commits refused, and run no compensation of what another one continues",
    Effect.gen(function*() {
      const steps = makeSteps()
      const undone: Array<string> = []
      const flow = Flow.toLayer(Effect.fn(function*() {
        yield* steps.step("first", 1).pipe(
          Workflow.withCompensation(() => Effect.sync(() => void undone.push("first")))
        )
        yield* Signal.receive(Stop)
        return "done"
      }))
      const first = yield* begin(flow)
      const run = yield* first.run(Run.start(Flow, { id: "1" }))
      yield* untilState(run.id, "waiting")
      const second = yield* begin(flow)
      yield* first.kill
      yield* second.run(Effect.flatMap(Run.byId(Flow, run.id), (run) => run.signal(Stop)))
      const same = yield* second.run(Run.byId(Flow, run.id))
      assert.strictEqual(yield* second.run(same.await), "done")
      assert.deepStrictEqual(undone, [])
      assert.deepStrictEqual(steps.log, ["first"])
    })
  )

  live(
    "leave a run alone that waits for a long time, and find it again",
    Effect.gen(function*() {
      const flow = Flow.toLayer(Effect.fn(function*() {
        const stopped = yield* Signal.receiveWithin(Stop, "365 days")
        return Option.isSome(stopped)
      }))
      const first = yield* begin(flow, { maxResident: 0 })
      const run = yield* first.run(Run.start(Flow, { id: "1" }))
      yield* untilState(run.id, "waiting")
      yield* first.kill
      const second = yield* begin(flow)
      const same = yield* second.run(Run.byId(Flow, run.id))
      yield* second.run(same.signal(Stop))
      assert.deepStrictEqual(yield* Effect.exit(second.run(same.await)), Exit.succeed(true))
    })
  )
}

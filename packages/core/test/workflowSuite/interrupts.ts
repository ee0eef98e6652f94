/** Interruption, compensation, finalizers, and runs that are held. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import * as DurableDeferred from "effect/workflow/DurableDeferred"
import * as Workflow from "effect/workflow/Workflow"
import { WorkflowEngine } from "effect/workflow/WorkflowEngine"
import { begin, liveOver, makeSteps, type Stores, until, untilState, workflow } from "./kit.ts"

const Go = DurableDeferred.make("go", { success: Schema.String })

export const interruptPromises = (stores: Stores): void => {
  const Flow = workflow("Flow", { error: Schema.String })
  const live = liveOver(stores)

  const interruptUnsafe = (id: string) => Effect.flatMap(WorkflowEngine, (engine) => engine.interruptUnsafe(Flow, id))

  const compensated = (log: Array<string>, name: string) => {
    const { step } = makeSteps()
    return step(name, name).pipe(
      Workflow.withCompensation(() =>
        Activity.make({ name: `undo ${name}`, execute: Effect.sync(() => void log.push(`undo ${name}`)) })
      )
    )
  }

  live(
    "interrupts a run when it waits, and compensates in reverse order, each once",
    Effect.gen(function*() {
      for (const maxResident of [1_000_000, 0]) {
        const log: Array<string> = []
        const process = yield* begin(
          Flow.toLayer(Effect.fn(function*() {
            yield* Workflow.addFinalizer((exit) => Effect.sync(() => void log.push(`final ${exit._tag}`)))
            yield* compensated(log, "a")
            yield* compensated(log, "b")
            yield* DurableDeferred.await(Go)
          })),
          { maxResident }
        )
        const id = yield* process.run(Flow.execute({ id: `${maxResident}` }, { discard: true }))
        yield* untilState(id, "waiting")
        yield* process.run(Effect.all([Flow.interrupt(id), Flow.interrupt(id)]))
        yield* untilState(id, "cancelled")
        assert.deepStrictEqual(log, ["undo b", "undo a", "final Failure"])
        yield* process.run(Flow.interrupt(id))
        const exit = yield* Effect.exit(process.run(Flow.execute({ id: `${maxResident}` })))
        assert.isTrue(Exit.hasInterrupts(exit))
        yield* process.kill
      }
    })
  )

  live(
    "lets a step that runs end before a safe interruption, and begins no other",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const process = yield* begin(Flow.toLayer(Effect.fn(function*() {
        yield* step("slow", 1, 60)
        yield* step("next", 1)
      })))
      const id = yield* process.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* until(() => count("slow") === 1)
      yield* process.run(Flow.interrupt(id))
      yield* untilState(id, "cancelled")
      assert.deepStrictEqual([count("slow"), count("next")], [1, 0])
    })
  )

  live(
    "lets a run that ends first keep its end",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const process = yield* begin(Flow.toLayer(() => step("slow", "done", 60)))
      const id = yield* process.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* until(() => count("slow") === 1)
      yield* process.run(Flow.interrupt(id))
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), "done")
    })
  )

  live(
    "interrupts a step at once when it may be unsafe",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const log: Array<string> = []
      const process = yield* begin(Flow.toLayer(Effect.fn(function*() {
        yield* compensated(log, "a")
        yield* step("forever", 1, 1_000_000)
      })))
      const id = yield* process.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* until(() => count("forever") === 1)
      yield* process.run(interruptUnsafe(id))
      yield* untilState(id, "cancelled")
      assert.deepStrictEqual(log, ["undo a"])
    })
  )

  live(
    "ignores an interruption of a run that is not known, also when it starts later",
    Effect.gen(function*() {
      const process = yield* begin(Flow.toLayer(() => Effect.succeed("done")))
      const id = yield* Flow.executionId({ id: "1" })
      yield* process.run(Effect.all([Flow.interrupt(id), Flow.resume(id), interruptUnsafe(id)]))
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), "done")
    })
  )

  live(
    "compensates a failure, with the value and the cause",
    Effect.gen(function*() {
      const log: Array<string> = []
      const process = yield* begin(Flow.toLayer(Effect.fn(function*() {
        const { step } = makeSteps()
        yield* step("book", "b1").pipe(
          Workflow.withCompensation((value, cause) =>
            Effect.sync(() => void log.push(`${value} ${cause.reasons[0]!._tag}`))
          )
        )
        return yield* Effect.fail("no")
      })))
      assert.strictEqual(yield* Effect.flip(process.run(Flow.execute({ id: "1" }))), "no")
      assert.deepStrictEqual(log, ["b1 Fail"])
    })
  )

  live(
    "closes the run's scope when it ends, and not when it waits in memory",
    Effect.gen(function*() {
      const log: Array<string> = []
      const process = yield* begin(Flow.toLayer(Effect.fn(function*() {
        yield* Workflow.provideScope(
          Effect.acquireRelease(Effect.void, () => Effect.sync(() => void log.push("released")))
        )
        return yield* DurableDeferred.await(Go)
      })))
      const id = yield* process.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* untilState(id, "waiting")
      assert.deepStrictEqual(log, [])
      yield* process.run(DurableDeferred.succeed(Go, {
        token: DurableDeferred.tokenFromExecutionId(Go, { workflow: Flow, executionId: id }),
        value: "gone"
      }))
      assert.strictEqual(yield* process.run(Flow.execute({ id: "1" })), "gone")
      assert.deepStrictEqual(log, ["released"])
    })
  )

  live(
    "holds a run that fails if it is to be suspended then, and goes on when it is resumed",
    Effect.gen(function*() {
      const Held = workflow("Held").annotate(Workflow.SuspendOnFailure, true)
      let isBroken = true
      let ran = 0
      const process = yield* begin(Held.toLayer(() =>
        Activity.make({
          name: "breaks",
          success: Schema.String,
          execute: Effect.suspend(() => {
            ran++
            return isBroken ? Effect.die(new Error("broken")) : Effect.succeed("mended")
          })
        })
      ))
      const id = yield* process.run(Held.execute({ id: "1" }, { discard: true }))
      const record = yield* untilState(id, "waiting")
      assert.match(Option.getOrThrow(record.held), /broken/)
      const polled = Option.getOrThrow(yield* process.run(Held.poll(id)))
      assert.deepInclude(polled, { _tag: "Suspended", failed: true })
      isBroken = false
      yield* process.run(Held.resume(id))
      assert.strictEqual(yield* process.run(Held.execute({ id: "1" })), "mended")
      assert.strictEqual(ran, 2)
      yield* process.run(Held.resume(id))
    })
  )

  live(
    "holds a run whose code has changed, says where, and goes on when it is right again",
    Effect.gen(function*() {
      const { log, step } = makeSteps()
      const code = (isChanged: boolean) =>
        Flow.toLayer(Effect.fn(function*() {
          yield* step("reserve", 1)
          if (isChanged) yield* step("notify", 1)
          yield* step("charge", 1)
          yield* DurableDeferred.await(Go)
          return "done"
        }))
      const go = (id: string) =>
        DurableDeferred.succeed(Go, {
          token: DurableDeferred.tokenFromExecutionId(Go, { workflow: Flow, executionId: id }),
          value: "gone"
        })
      const first = yield* begin(code(false))
      const id = yield* first.run(Flow.execute({ id: "1" }, { discard: true }))
      yield* untilState(id, "waiting")
      yield* first.kill
      const second = yield* begin(code(true))
      yield* second.run(go(id))
      yield* until(() => true)
      let held = Option.none<string>()
      while (Option.isNone(held)) {
        held = (yield* untilState(id, "waiting")).held
        yield* Effect.sleep("20 millis")
      }
      assert.match(held.value, /position 1 .*"step:charge\/1".* asks for "step:notify\/1"/)
      yield* second.kill
      const third = yield* begin(code(false))
      yield* third.run(Flow.resume(id))
      assert.strictEqual(yield* third.run(Flow.execute({ id: "1" })), "done")
      assert.deepStrictEqual(log, ["reserve", "charge"])
    })
  )
}

/** Runs that start and join others. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as DurableDeferred from "effect/workflow/DurableDeferred"
import * as Workflow from "effect/workflow/Workflow"
import { begin, liveOver, makeSteps, type Stores, untilState, workflow } from "./kit.ts"

const Go = DurableDeferred.make("go", { success: Schema.String })

export const childPromises = (stores: Stores): void => {
  const Child = workflow("Child", { success: Schema.String, error: Schema.String })
  const Parent = workflow("Parent")
  const live = liveOver(stores)
  const go = (id: string) =>
    DurableDeferred.succeed(Go, {
      token: DurableDeferred.tokenFromExecutionId(Go, { workflow: Child, executionId: id }),
      value: "gone"
    })

  live(
    "get results and errors of many children",
    Effect.gen(function*() {
      const process = yield* begin(Layer.merge(
        Child.toLayer(({ id }) => id === "7" ? Effect.fail("no") : Effect.succeed(id)),
        Parent.toLayer(() =>
          Effect.forEach(
            Array.from({ length: 200 }, (_, n) => `${n}`),
            (id) => Effect.orElseSucceed(Child.execute({ id }), () => "failed"),
            { concurrency: "unbounded" }
          )
        )
      ))
      const results = yield* process.run(Parent.execute({ id: "1" }))
      assert.deepStrictEqual(results, Array.from({ length: 200 }, (_, n) => n === 7 ? "failed" : `${n}`))
    })
  )

  live(
    "join a child that another one has started, and one that is over",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      for (const maxResident of [1_000_000, 0]) {
        const process = yield* begin(
          Layer.merge(
            Child.toLayer(() => Effect.andThen(step(`child ${maxResident}`, 1), DurableDeferred.await(Go))),
            Parent.toLayer(() => Effect.orDie(Child.execute({ id: `shared ${maxResident}` })))
          ),
          { maxResident }
        )
        const parents = ["a", "b"].map((name) => `${name} ${maxResident}`)
        const ids: Array<string> = []
        for (const id of parents) {
          ids.push(yield* process.run(Parent.execute({ id }, { discard: true })))
          yield* untilState(ids.at(-1)!, "waiting")
        }
        const child = yield* Child.executionId({ id: `shared ${maxResident}` })
        yield* untilState(child, "waiting")
        yield* process.run(go(child))
        for (const id of parents) assert.strictEqual(yield* process.run(Parent.execute({ id })), "gone")
        assert.strictEqual(yield* process.run(Parent.execute({ id: `late ${maxResident}` })), "gone")
        assert.strictEqual(count(`child ${maxResident}`), 1)
        yield* process.kill
      }
    })
  )

  live(
    "interrupt their children with themselves, and not those that are detached",
    Effect.gen(function*() {
      const process = yield* begin(Layer.merge(
        Child.toLayer(() => DurableDeferred.await(Go)),
        Parent.toLayer(Effect.fn(function*() {
          yield* Child.execute({ id: "detached" }, { discard: true, detached: true })
          return yield* Effect.orDie(Child.execute({ id: "linked" }))
        }))
      ))
      const parent = yield* process.run(Parent.execute({ id: "1" }, { discard: true }))
      const linked = yield* Child.executionId({ id: "linked" })
      const detached = yield* Child.executionId({ id: "detached" })
      yield* untilState(linked, "waiting")
      yield* untilState(parent, "waiting")
      yield* process.run(Parent.interrupt(parent))
      yield* untilState(parent, "cancelled")
      yield* untilState(linked, "cancelled")
      yield* untilState(detached, "waiting")
      yield* process.run(go(detached))
      yield* untilState(detached, "succeeded")
    })
  )

  live(
    "learn of a child's interruption, and of its defect",
    Effect.gen(function*() {
      const Dies = workflow("Dies").annotate(Workflow.CaptureDefects, false)
      const process = yield* begin(Layer.mergeAll(
        Child.toLayer(() => DurableDeferred.await(Go)),
        Dies.toLayer(() => Effect.die(new Error("broken"))),
        Parent.toLayer(Effect.fn(function*() {
          const child = yield* Effect.exit(Child.execute({ id: "1" }))
          const dead = yield* Effect.exit(Dies.execute({ id: "1" }))
          return [Exit.isFailure(child), Exit.isFailure(dead) && String(dead.cause).includes("broken")]
        }))
      ))
      const parent = yield* process.run(Parent.execute({ id: "1" }, { discard: true }))
      const child = yield* Child.executionId({ id: "1" })
      yield* untilState(child, "waiting")
      yield* process.run(Child.interrupt(child))
      assert.deepStrictEqual(yield* process.run(Parent.execute({ id: "1" })), [true, true])
      yield* untilState(parent, "succeeded")
    })
  )

  live(
    "start children and go on without them",
    Effect.gen(function*() {
      const process = yield* begin(Layer.merge(
        Child.toLayer(({ id }) => Effect.succeed(id)),
        Parent.toLayer(Effect.fn(function*() {
          const id = yield* Child.execute({ id: "1" }, { discard: true })
          return [id, yield* Effect.orDie(Child.execute({ id: "1" }))]
        }))
      ))
      const child = yield* Child.executionId({ id: "1" })
      assert.deepStrictEqual(yield* process.run(Parent.execute({ id: "1" })), [child, "1"])
    })
  )
}

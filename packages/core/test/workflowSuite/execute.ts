/** Starting, joining and polling. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as DurableDeferred from "effect/workflow/DurableDeferred"
import * as Workflow from "effect/workflow/Workflow"
import { WorkflowEngine } from "effect/workflow/WorkflowEngine"
import { begin, liveOver, makeSteps, type Stores, untilState, workflow } from "./kit.ts"

const Go = DurableDeferred.make("go", { success: Schema.String })

const go = (flow: Workflow.Any, id: string) =>
  DurableDeferred.succeed(Go, {
    token: DurableDeferred.tokenFromExecutionId(Go, { workflow: flow as never, executionId: id }),
    value: "gone"
  })

export const executePromises = (stores: Stores): void => {
  const One = workflow("One", { success: Schema.Int })
  const Waits = workflow("Waits", { success: Schema.String })
  const live = liveOver(stores)

  live(
    "executes a workflow once for an id, whatever the payload, also when it is over",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const process = yield* begin(One.toLayer(() => step("a", 1, 20)))
      const results = yield* process.run(
        Effect.all(Array.from({ length: 5 }, () => One.execute({ id: "1" })), { concurrency: 5 })
      )
      assert.deepStrictEqual(results, [1, 1, 1, 1, 1])
      assert.strictEqual(yield* process.run(One.execute({ id: "1" })), 1)
      assert.strictEqual(count("a"), 1)
    })
  )

  live(
    "knows ids of any text, which its code sees as they are, and does not mix those of two workflows",
    Effect.gen(function*() {
      const Text = workflow("Text", { success: Schema.String })
      const Same = workflow("Same", { success: Schema.String })
      const process = yield* begin(Layer.merge(
        Text.toLayer((_, id) => Effect.succeed(`text ${id}`)),
        Same.toLayer((_, id) => Effect.succeed(`same ${id}`))
      ))
      const execute = (flow: typeof Text | typeof Same, executionId: string) =>
        Effect.flatMap(
          WorkflowEngine,
          (engine) => engine.execute(flow as typeof Text, { executionId, payload: { id: "" } })
        )
      for (const id of ["order/1", "ü 🚚", "0123"]) {
        assert.strictEqual(yield* process.run(execute(Text, id)), `text ${id}`)
        assert.strictEqual(yield* process.run(execute(Same, id)), `same ${id}`)
      }
    })
  )

  live(
    "returns at once when the result is discarded",
    Effect.gen(function*() {
      const process = yield* begin(Waits.toLayer(() => DurableDeferred.await(Go)))
      const id = yield* process.run(Waits.execute({ id: "1" }, { discard: true }))
      assert.strictEqual(id, yield* Waits.executionId({ id: "1" }))
      yield* untilState(id, "waiting")
      yield* process.run(go(Waits, id))
      assert.strictEqual(yield* process.run(Waits.execute({ id: "1" })), "gone")
    })
  )

  live(
    "tells what it knows of a run in every state",
    Effect.gen(function*() {
      const process = yield* begin(Waits.toLayer(() => DurableDeferred.await(Go)))
      assert.isTrue(Option.isNone(yield* process.run(Waits.poll("unknown"))))
      const id = yield* process.run(Waits.execute({ id: "1" }, { discard: true }))
      yield* untilState(id, "waiting")
      assert.strictEqual(Option.getOrThrow(yield* process.run(Waits.poll(id)))._tag, "Suspended")
      yield* process.run(go(Waits, id))
      yield* untilState(id, "succeeded")
      const done = Option.getOrThrow(yield* process.run(Waits.poll(id)))
      assert.deepStrictEqual(done, new Workflow.Complete({ exit: Exit.succeed("gone") }))
    })
  )

  live(
    "lets a caller whose schedule ends give up",
    Effect.gen(function*() {
      const Impatient = Workflow.make("Impatient", {
        payload: { id: Schema.String },
        success: Schema.String,
        idempotencyKey: ({ id }) => id,
        suspendedRetrySchedule: Schedule.recurs(2)
      })
      const process = yield* begin(Impatient.toLayer(() => DurableDeferred.await(Go)))
      const exit = yield* Effect.exit(process.run(Impatient.execute({ id: "1" })))
      assert.isTrue(Exit.isFailure(exit))
    })
  )

  live(
    "starts a run in a process that does not serve it, and gets its result from the one that does",
    Effect.gen(function*() {
      const { count, step } = makeSteps()
      const client = yield* begin(Layer.empty as never)
      const waiting = yield* Effect.forkChild(client.run(One.execute({ id: "1" })), { startImmediately: true })
      yield* Effect.sleep("20 millis")
      yield* begin(One.toLayer(() => step("a", 1)))
      assert.strictEqual(yield* Fiber.join(waiting), 1)
      assert.strictEqual(count("a"), 1)
    })
  )

  live(
    "shares runs among processes, each step once",
    Effect.gen(function*() {
      const { log, step } = makeSteps()
      const bodies = One.toLayer(({ id }) => Effect.andThen(step(`${id} a`, 1), step(`${id} b`, 2)))
      const client = yield* begin(Layer.empty as never)
      const ids = Array.from({ length: 100 }, (_, n) => `${n}`)
      yield* client.run(Effect.forEach(ids, (id) => One.execute({ id }, { discard: true }), { concurrency: 20 }))
      yield* begin(bodies)
      yield* begin(bodies)
      const results = yield* client.run(Effect.forEach(ids, (id) => One.execute({ id }), { concurrency: 100 }))
      assert.deepStrictEqual(results, ids.map(() => 2))
      assert.strictEqual(new Set(log).size, 200)
      assert.lengthOf(log, 200)
    })
  )

  live(
    "dies with a defect that the workflow does not capture, in every process",
    Effect.gen(function*() {
      const Dies = workflow("Dies").annotate(Workflow.CaptureDefects, false)
      const process = yield* begin(Dies.toLayer(() => Effect.die(new Error("broken"))))
      const first = yield* Effect.exit(process.run(Dies.execute({ id: "1" })))
      assert.match(String(Exit.isFailure(first) && first.cause), /broken/)
      const id = yield* Dies.executionId({ id: "1" })
      assert.isTrue(Exit.isFailure(yield* Effect.exit(process.run(Dies.poll(id)))))
    })
  )

  live(
    "fails with the workflow's error, and with a captured defect",
    Effect.gen(function*() {
      class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}
      const Fails = workflow("Fails", { error: Declined })
      const process = yield* begin(
        Fails.toLayer(({ id }) =>
          id === "typed" ? Effect.fail(new Declined({ why: "negative" })) : Effect.die(new Error("broken"))
        )
      )
      const error = yield* Effect.flip(process.run(Fails.execute({ id: "typed" })))
      assert.instanceOf(error, Declined)
      const exit = yield* Effect.exit(process.run(Fails.execute({ id: "defect" })))
      assert.match(String(Exit.isFailure(exit) && exit.cause), /broken/)
    })
  )
}

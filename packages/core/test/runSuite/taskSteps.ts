/** Tasks as steps of workflows: one process that serves both, in memory. */
import { assert, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Workflow from "effect/workflow/Workflow"
import { Broker } from "../../src/Broker.ts"
import * as InProcessRunner from "../../src/InProcessRunner.ts"
import * as Run from "../../src/Run.ts"
import * as RunHost from "../../src/RunHost.ts"
import type { RunStore } from "../../src/RunStore.ts"
import * as Signal from "../../src/Signal.ts"
import * as Supervisor from "../../src/Supervisor.ts"
import * as Task from "../../src/Task.ts"
import * as Worker from "../../src/Worker.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { why: Schema.String }) {}
class Charge extends Task.make("Charge", {
  payload: { amount: Schema.Int },
  success: Schema.Int,
  error: Declined,
  retry: { attempts: 1 }
}) {}
class Lose extends Signal.make("Lose") {}
class Forever extends Task.make("Forever") {}

const order = Workflow.make("Order", {
  payload: { id: Schema.String, amount: Schema.Int },
  success: Schema.Int,
  error: Schema.Union([Declined, Task.TaskError]),
  idempotencyKey: ({ id }) => id
})
const many = Workflow.make("Many", {
  payload: { id: Schema.String, amounts: Schema.Array(Schema.Int) },
  success: Schema.Array(Schema.Int),
  error: Schema.Union([Declined, Task.TaskError]),
  idempotencyKey: ({ id }) => id
})
const race = Workflow.make("Race", {
  payload: { id: Schema.String },
  success: Schema.Boolean,
  error: Schema.Union([Declined, Task.TaskError]),
  idempotencyKey: ({ id }) => id
})

export const taskStepPromises = (stores: Layer.Layer<RunStore | Broker, unknown>): void => {
  /** A process that serves the tasks and the workflows. */
  const worker = Effect.gen(function*() {
    const charged: Array<number> = []
    const started = yield* Deferred.make<void>()
    const stopped = yield* Deferred.make<void>()
    const tasks = Worker.make({
      tasks: [Charge, Forever],
      handlers: Layer.merge(
        Charge.toLayer(({ amount }) =>
          Effect.suspend(() => {
            charged.push(amount)
            return amount < 0 ? Effect.fail(new Declined({ why: "negative" })) : Effect.succeed(amount * 2)
          })
        ),
        Forever.toLayer(() =>
          Deferred.succeed(started, undefined).pipe(
            Effect.andThen(Effect.never),
            Effect.onInterrupt(() => Deferred.succeed(stopped, undefined))
          )
        )
      )
    })
    const workflows = Layer.mergeAll(
      order.toLayer(({ amount }) => Task.execute(Charge, { amount })),
      many.toLayer(({ amounts }) => Task.executeAll(Charge, amounts.map((amount) => ({ amount })), { concurrency: 7 })),
      race.toLayer(() =>
        Effect.raceFirst(Effect.as(Task.execute(Forever), false), Effect.as(Signal.receive(Lose), true))
      )
    )
    const engine = Layer.provideMerge(workflows, RunHost.layerShared())
    const context = yield* Layer.build(Layer.provideMerge(engine, stores))
    yield* Effect.gen(function*() {
      const runs = yield* RunHost.RunHost
      return yield* Supervisor.run({ worker: tasks, runs, concurrency: 10 })
    }).pipe(Effect.provide(InProcessRunner.layer(tasks)), Effect.provide(context), Effect.forkScoped)
    return { charged, context, started, stopped }
  })

  it.live("executes a task as a step and returns its success", () =>
    Effect.gen(function*() {
      const { charged, context } = yield* worker
      assert.strictEqual(yield* Effect.provide(order.execute({ id: "1", amount: 21 }), context), 42)
      assert.deepStrictEqual(charged, [21])
    }).pipe(Effect.scoped))

  it.live("fails with the task's declared error", () =>
    Effect.gen(function*() {
      const { context } = yield* worker
      const error = yield* Effect.flip(Effect.provide(order.execute({ id: "1", amount: -1 }), context))
      assert.instanceOf(error, Declined)
    }).pipe(Effect.scoped))

  it.live("executes a task for each payload, equal payloads too, and returns the successes in their order", () =>
    Effect.gen(function*() {
      const { charged, context } = yield* worker
      const amounts = Array.from({ length: 100 }, (_, index) => index % 10)
      const results = yield* Effect.provide(many.execute({ id: "1", amounts }), context)
      assert.deepStrictEqual(results, amounts.map((amount) => amount * 2))
      assert.lengthOf(charged, 100)
    }).pipe(Effect.scoped))

  it.live("cancels the executions that a failed executeAll does not wait for", () =>
    Effect.gen(function*() {
      const { charged, context } = yield* worker
      const amounts = [-1, ...Array.from({ length: 100 }, (_, index) => index)]
      yield* Effect.flip(Effect.provide(many.execute({ id: "1", amounts }), context))
      assert.isBelow(charged.length, 101)
    }).pipe(Effect.scoped))

  it.live("cancels an execution that has lost a race", () =>
    Effect.gen(function*() {
      const { context, started, stopped } = yield* worker
      yield* Effect.gen(function*() {
        const run = yield* Run.start(race, { id: "1" })
        yield* Deferred.await(started)
        yield* run.signal(Lose)
        assert.isTrue(yield* run.await)
        yield* Deferred.await(stopped)
      }).pipe(Effect.provide(context))
    }).pipe(Effect.scoped))

  it.live("cancels the execution of a run that is interrupted", () =>
    Effect.gen(function*() {
      const { context, stopped } = yield* worker
      const wait = Workflow.make("Wait", { payload: {}, idempotencyKey: () => "1", error: Task.TaskError })
      yield* Effect.gen(function*() {
        yield* Layer.build(wait.toLayer(() => Task.execute(Forever)))
        const id = yield* wait.execute({}, { discard: true })
        const broker = yield* Broker
        const run = yield* Effect.forkChild(wait.execute({}))
        yield* Effect.repeat(Effect.delay(broker.read(dashed(id)), "5 millis"), {
          until: (record) => Option.isSome(record) && record.value.state === "waiting"
        })
        yield* wait.interrupt(id)
        yield* Fiber.await(run)
        yield* Deferred.await(stopped)
      }).pipe(Effect.provide(context))
    }).pipe(Effect.scoped))
}

const dashed = (id: string): string => id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")

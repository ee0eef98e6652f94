/** How runs end, or go on: continue-as-new, termination, timeouts. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import * as Workflow from "effect/workflow/Workflow"
import type { Broker } from "../../src/Broker.ts"
import * as Run from "../../src/Run.ts"
import * as RunHost from "../../src/RunHost.ts"
import type { RunStore } from "../../src/RunStore.ts"
import * as Signal from "../../src/Signal.ts"

class Add extends Signal.make("Add", { payload: { n: Schema.Int } }) {}

const Sum = Workflow.make("Sum", {
  payload: { id: Schema.String, sum: Schema.Int, links: Schema.Int },
  success: Schema.Struct({ sum: Schema.Int, links: Schema.Int, lengths: Schema.Array(Schema.Int) }),
  idempotencyKey: ({ id }) => id
})
const Forever = Workflow.make("Forever", {
  payload: { id: Schema.String },
  success: Schema.Void,
  idempotencyKey: ({ id }) => id
})
const Parent = Workflow.make("Parent", {
  payload: { id: Schema.String },
  success: Schema.String,
  idempotencyKey: ({ id }) => id
})

const log: Array<string> = []
const note = (text: string) => Effect.sync(() => void log.push(text))

/** Receives two signals in each link. */
const bodies = Layer.mergeAll(
  Sum.toLayer(Effect.fn(function*({ id, links, sum }) {
    const { n } = yield* Signal.receive(Add)
    const more = yield* Signal.receive(Add)
    yield* Activity.make({ name: "add", execute: Effect.void })
    const info = yield* Run.info
    const total = sum + n + more.n
    if (info.link < links) return yield* Run.continueAsNew(Sum, { id, links, sum: total })
    return { sum: total, links: info.link, lengths: [info.length] }
  })),
  Forever.toLayer(Effect.fn(function*({ id }) {
    yield* Workflow.addFinalizer(() => note(`${id} finalized`))
    yield* Activity.make({ name: "reserve", execute: Effect.void }).pipe(
      Workflow.withCompensation(() => note(`${id} compensated`))
    )
    yield* Activity.make({ name: "forever", execute: Effect.never })
  })),
  Parent.toLayer(({ id }) =>
    Forever.execute({ id: `${id} child` }).pipe(
      Effect.as("done"),
      Effect.catchDefect((defect) => Effect.succeed(String(defect)))
    )
  )
)

export const endPromises = (stores: Layer.Layer<RunStore | Broker, unknown>): void => {
  for (const maxResident of [1_000_000, 0]) {
    const where = maxResident === 0 ? "leaves memory when it waits" : "stays in memory"
    const live = (name: string, test: Effect.Effect<void, unknown, Layer.Success<typeof layer>>) =>
      it.live(`a run that ${where} ${name}`, () => Effect.provide(test, layer))
    const layer = bodies.pipe(
      Layer.provideMerge(RunHost.layer({ maxResident })),
      Layer.provideMerge(stores)
    )

    live(
      "continues as new with its signals, also those that were read and not received",
      Effect.gen(function*() {
        const run = yield* Run.start(Sum, { id: "1", links: 5, sum: 0 })
        for (let n = 1; n <= 10; n++) yield* run.signal(Add, { n })
        assert.deepStrictEqual(yield* run.await, { sum: 55, links: 5, lengths: [3] })
      })
    )

    live(
      "continues as new while signals arrive, and loses none",
      Effect.gen(function*() {
        const run = yield* Run.start(Sum, { id: "1", links: 50, sum: 0 })
        yield* Effect.forEach(
          Array.from({ length: 100 }, (_, n) => n),
          (n) => Effect.andThen(run.signal(Add, { n }), n % 7 === 0 ? Effect.sleep("1 millis") : Effect.void)
        )
        assert.deepInclude(yield* run.await, { sum: 4950, links: 50 })
      })
    )
  }

  const layer = bodies.pipe(Layer.provideMerge(RunHost.layer()), Layer.provideMerge(stores))

  it.live("a terminated run ends at once, without finalizers and compensations", () =>
    Effect.gen(function*() {
      const run = yield* Run.start(Forever, { id: "terminated" })
      yield* Effect.sleep("30 millis")
      assert.isTrue(yield* run.terminate("not wanted"))
      assert.isFalse(yield* run.terminate("not wanted"))
      const error = yield* Effect.flip(run.await)
      assert.deepInclude(error.reason, { _tag: "Terminated", why: "not wanted" })
      yield* Effect.sleep("30 millis")
      assert.notInclude(log, "terminated finalized")
      assert.notInclude(log, "terminated compensated")
    }).pipe(Effect.provide(layer)))

  it.live("a parent learns that its child was terminated", () =>
    Effect.gen(function*() {
      const parent = yield* Run.start(Parent, { id: "p" })
      const child = yield* Run.find(Forever, { id: "p child" })
      yield* Effect.repeat(Effect.delay(child.terminate("not wanted"), "5 millis"), { until: (was) => was })
      assert.include(yield* parent.await, "it was terminated: not wanted")
    }).pipe(Effect.provide(layer)))

  it.live("a run whose time is over is interrupted in its step, and compensates", () =>
    Effect.gen(function*() {
      const run = yield* Run.start(Forever, { id: "late" }, { timeout: "50 millis" })
      const error = yield* Effect.flip(run.await)
      assert.strictEqual(error.reason._tag, "TimedOut")
      assert.includeMembers(log, ["late compensated", "late finalized"])
    }).pipe(Effect.provide(layer)))

  it.live("a run that ends in time has its result", () =>
    Effect.gen(function*() {
      const run = yield* Run.start(Sum, { id: "1", links: 1, sum: 0 }, { timeout: "1 hour" })
      yield* run.signal(Add, { n: 1 })
      yield* run.signal(Add, { n: 2 })
      assert.deepInclude(yield* run.await, { sum: 3 })
    }).pipe(Effect.provide(layer)))
}

import { assert, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import * as DurableDeferred from "effect/workflow/DurableDeferred"
import * as Workflow from "effect/workflow/Workflow"
import * as MemoryRunStore from "../src/MemoryRunStore.ts"
import * as RunHost from "../src/RunHost.ts"

const engine = RunHost.layer().pipe(Layer.provideMerge(MemoryRunStore.layer))
const wf = <T extends string>(t: T) =>
  Workflow.make(t, {
    payload: { id: Schema.String },
    success: Schema.Any,
    error: Schema.String,
    idempotencyKey: (p) => p.id
  })
const step = (name: string, value: unknown, ms = 0) =>
  Activity.make({ name, success: Schema.Any, execute: Effect.delay(Effect.succeed(value), ms) })

const One = wf("One"),
  Sleepy = wf("Sleepy"),
  Race = wf("Race"),
  Parent = wf("Parent"),
  Def = wf("Def"),
  Fails = wf("Fails")
const live = Layer.mergeAll(
  One.toLayer(() => step("a", 1)),
  Sleepy.toLayer(Effect.fn(function*() {
    const t0 = yield* Clock.currentTimeMillis
    yield* Effect.sleep("50 millis")
    const t1 = yield* Clock.currentTimeMillis
    return t1 - t0 >= 50
  })),
  Race.toLayer(Effect.fn(function*() {
    return yield* Effect.race(step("slow", "slow", 100), step("fast", "fast", 5))
  })),
  Parent.toLayer(Effect.fn(function*({ id }) {
    return [
      yield* One.execute({ id: `${id}c` }),
      yield* Effect.all([One.execute({ id: `${id}d` }), One.execute({ id: `${id}e` })], { concurrency: 2 })
    ]
  })),
  Def.toLayer(Effect.fn(function*() {
    return yield* DurableDeferred.await(DurableDeferred.make("d", { success: Schema.Int }))
  })),
  Fails.toLayer(Effect.fn(function*() {
    yield* step("x", 1)
    return yield* Effect.fail("no")
  }))
)
const layer = live.pipe(Layer.provideMerge(engine))
it.live("scratch", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* One.execute({ id: "1" }), 1)
    assert.strictEqual(yield* One.execute({ id: "1" }), 1)
    assert.strictEqual(yield* Sleepy.execute({ id: "1" }), true)
    assert.strictEqual(yield* Race.execute({ id: "1" }), "fast")
    assert.deepStrictEqual(yield* Parent.execute({ id: "1" }), [1, [1, 1]])
    assert.strictEqual(yield* Effect.flip(Fails.execute({ id: "1" })), "no")
    const f = yield* Effect.forkChild(Def.execute({ id: "1" }))
    yield* Effect.sleep(50)
    const d = DurableDeferred.make("d", { success: Schema.Int })
    yield* DurableDeferred.succeed(d, {
      token: DurableDeferred.tokenFromExecutionId(d, {
        workflow: Def,
        executionId: yield* Def.executionId({ id: "1" })
      }),
      value: 7
    })
    assert.strictEqual(yield* Fiber.join(f), 7)
    const t0 = performance.now()
    yield* Effect.forEach(Array.from({ length: 2000 }, (_, i) => `x${i}`), (id) => One.execute({ id }), {
      concurrency: 50
    })
    console.log("2000 runs", performance.now() - t0)
  }).pipe(Effect.provide(layer)), 20000)

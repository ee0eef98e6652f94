import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type It, makeAttempt, endOf, run, valueOf } from "./kit.ts"
import * as Tasks from "./tasks.ts"

export const attemptPromises = (it: It): void => {
  it.effect("tells a handler which attempt it serves, and puts that on every line which it logs", () =>
    Effect.gen(function*() {
      const made = makeAttempt(Tasks.About, null, { queue: "images", attempt: 7 })
      const about = valueOf(yield* endOf(made))
      const { execution } = made.attempt
      assert.include(about, { executionId: execution, task: "About", queue: "images", attempt: 7 })
      assert.include(about.annotations, { task: "About", execution, attempt: 7, own: 1 })
    }))

  it.effect("continues the trace of the attempt", () =>
    Effect.gen(function*() {
      const traceId = "0af7651916cd43dd8448eb211c80319c"
      const traceparent = Option.some(`00-${traceId}-b7ad6b7169203331-01`)
      assert.strictEqual(valueOf(yield* run(Tasks.About, null, { traceparent })).traceId, traceId)
      assert.isNull(valueOf(yield* run(Tasks.About, null)).traceId)
    }))

  it.effect("builds the worker's layer once wherever handlers run, and gives them all that is in it", () =>
    Effect.gen(function*() {
      const all = yield* Effect.forEach(
        Array.from({ length: 40 }),
        () => Effect.map(run(Tasks.About, null), valueOf),
        { concurrency: "unbounded" }
      )
      const instances = new Map<string, Set<string>>()
      for (const { instance, thread } of all) {
        instances.set(thread, (instances.get(thread) ?? new Set()).add(instance))
      }
      for (const [thread, built] of instances) assert.strictEqual(built.size, 1, thread)
      assert.deepStrictEqual(new Set(all.map(({ beside }) => beside)), new Set(["a reference"]))
    }))
}

/** Changing the code of workflows that have runs. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import * as Workflow from "effect/workflow/Workflow"
import * as Patch from "../../src/Patch.ts"
import type { Broker } from "../../src/Broker.ts"
import * as Run from "../../src/Run.ts"
import * as RunHost from "../../src/RunHost.ts"
import type { RunStore } from "../../src/RunStore.ts"
import * as Signal from "../../src/Signal.ts"

class Go extends Signal.make("Go") {}

const Order = Workflow.make("Order", {
  payload: { id: Schema.String },
  success: Schema.Array(Schema.String),
  idempotencyKey: ({ id }) => id
})

const step = (name: string) => Activity.make({ name, success: Schema.String, execute: Effect.succeed(name) })

/** What ships an order: before the patch, with it, and when no run needs the old code any more. */
const codes = {
  before: Effect.map(step("one parcel"), (parcel) => [parcel]),
  patched: Effect.flatMap(Patch.active("two parcels"), (isActive) =>
    isActive
      ? Effect.all([step("parcel a"), step("parcel b")], { concurrency: 2 })
      : Effect.map(step("one parcel"), (parcel) => [parcel])),
  deprecated: Effect.andThen(
    Patch.deprecate("two parcels"),
    Effect.all([step("parcel a"), step("parcel b")], { concurrency: 2 })
  )
}

/** A process with one of the codes. It keeps no run in memory that waits. */
const host = (code: keyof typeof codes) =>
  Layer.provideMerge(
    Order.toLayer(Effect.fn(function*() {
      const parcels = yield* codes[code]
      yield* Signal.receive(Go)
      return [...parcels, yield* step("thank")]
    })),
    RunHost.layer({ maxResident: 0 })
  )

/** Starts a run with one code, and lets another code end it when it waits. */
const over =
  (stores: Layer.Layer<RunStore | Broker, unknown>) => (first: keyof typeof codes, second: keyof typeof codes) =>
    Effect.gen(function*() {
      const run = yield* Effect.gen(function*() {
        const run = yield* Run.start(Order, { id: "1" })
        yield* Effect.repeat(Effect.delay(Order.poll(run.id), "5 millis"), { until: ({ _tag }) => _tag === "Some" })
        return run
      }).pipe(Effect.provide(host(first)))
      return yield* Effect.gen(function*() {
        const same = yield* Run.byId(Order, run.id)
        yield* same.signal(Go)
        return yield* same.await
      }).pipe(Effect.provide(host(second)))
    }).pipe(Effect.provide(stores))

export const patchPromises = (stores: Layer.Layer<RunStore | Broker, unknown>): void => {
  it.live("a run that began before a patch goes on with the old code", () =>
    Effect.map(
      over(stores)("before", "patched"),
      (parcels) => assert.deepStrictEqual(parcels, ["one parcel", "thank"])
    ))

  it.live("a run that began with a patch uses the new code, also in a replay", () =>
    Effect.map(
      over(stores)("patched", "patched"),
      (parcels) => assert.deepStrictEqual(parcels, ["parcel a", "parcel b", "thank"])
    ))

  it.live("a run that holds a patch goes on when the old code is gone", () =>
    Effect.map(
      over(stores)("patched", "deprecated"),
      (parcels) => assert.deepStrictEqual(parcels, ["parcel a", "parcel b", "thank"])
    ))

  it.live("a run that began without the mark of a patch goes on when the mark is only accepted", () =>
    Effect.map(
      over(stores)("deprecated", "deprecated"),
      (parcels) => assert.deepStrictEqual(parcels, ["parcel a", "parcel b", "thank"])
    ))
}

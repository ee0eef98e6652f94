/** Queries, and histories that are replayed. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Ref from "effect/Ref"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import * as Workflow from "effect/workflow/Workflow"
import * as Query from "../../src/Query.ts"
import * as Replay from "../../src/Replay.ts"
import type { Broker } from "../../src/Broker.ts"
import * as Run from "../../src/Run.ts"
import * as RunHost from "../../src/RunHost.ts"
import type { RunStore } from "../../src/RunStore.ts"
import * as Signal from "../../src/Signal.ts"

class Status extends Query.make("Status", { success: Schema.Array(Schema.String) }) {}
class Other extends Query.make("Other", { success: Schema.String }) {}
class Go extends Signal.make("Go") {}

const Order = Workflow.make("Order", {
  payload: { id: Schema.String },
  success: Schema.Void,
  idempotencyKey: ({ id }) => id
})

const step = (name: string, log: Array<string>) =>
  Activity.make({ name, execute: Effect.sync(() => void log.push(name)) })

/** Steps with these names, then a signal, then these. */
const order = (log: Array<string>, before: ReadonlyArray<string>, after: ReadonlyArray<string>) =>
  Order.toLayer(Effect.fn(function*() {
    const done = yield* Ref.make<ReadonlyArray<string>>([])
    yield* Query.handle(Status, Ref.get(done))
    const run = (name: string) => Effect.andThen(step(name, log), Ref.update(done, (names) => [...names, name]))
    for (const name of before) yield* run(name)
    yield* Signal.receive(Go)
    for (const name of after) yield* run(name)
  }))

const host = (log: Array<string>, options: RunHost.Options, before = ["reserve", "charge"], after = ["ship"]) =>
  Layer.provideMerge(order(log, before, after), RunHost.layer(options))

const untilWaiting = <A, E>(run: Run.Run<A, E>) =>
  Effect.repeat(Effect.delay(Effect.orDie(run.query(Status)), "5 millis"), { until: ({ length }) => length === 2 })

export const queryPromises = (stores: Layer.Layer<RunStore | Broker, unknown>): void => {
  for (const maxResident of [1_000_000, 0]) {
    const where = maxResident === 0 ? "left memory" : "stayed in memory"
    it.live(`a run that ${where} answers a query while it waits, and when it is over`, () => {
      const log: Array<string> = []
      return Effect.gen(function*() {
        const run = yield* Run.start(Order, { id: "1" })
        yield* untilWaiting(run)
        assert.deepStrictEqual(yield* run.query(Status), ["reserve", "charge"])
        yield* run.signal(Go)
        yield* run.await
        assert.deepStrictEqual(yield* run.query(Status), ["reserve", "charge", "ship"])
        assert.deepStrictEqual(log, ["reserve", "charge", "ship"])
      }).pipe(Effect.provide(host(log, { maxResident })), Effect.provide(stores))
    })
  }

  it.live("a query fails without the run, without the code, and without an answer", () =>
    Effect.gen(function*() {
      const unknown = yield* Effect.provide(
        Effect.flatMap(Run.find(Order, { id: "2" }), (run) => Effect.flip(run.query(Status))),
        host([], {})
      )
      assert.strictEqual((unknown as Run.RunError).reason._tag, "NotFound")
      const client = RunHost.layer()
      yield* Effect.gen(function*() {
        const run = yield* Run.start(Order, { id: "1" })
        const error = yield* Effect.flip(run.query(Status))
        assert.strictEqual((error as Run.RunError).reason._tag, "NoWorker")
      }).pipe(Effect.provide(client))
      yield* Effect.gen(function*() {
        const run = yield* Run.find(Order, { id: "1" })
        const error = yield* Effect.flip(run.query(Other))
        assert.strictEqual((error as Run.RunError).reason._tag, "NoAnswer")
      }).pipe(Effect.provide(host([], {})))
    }).pipe(Effect.provide(stores)))

  it.live("a history is replayed without running a step, and names what changed code asks for", () => {
    const log: Array<string> = []
    const encode = Schema.encodeEffect(Schema.fromJsonString(Replay.History))
    const decode = Schema.decodeEffect(Schema.fromJsonString(Replay.History))
    return Effect.gen(function*() {
      const history = yield* Effect.gen(function*() {
        const run = yield* Run.signalWithStart(Order, { id: "1" }, Go)
        yield* run.await
        return yield* run.history
      }).pipe(Effect.provide(host(log, {})), Effect.provide(stores))
      const kept = yield* decode(yield* encode(history))
      assert.deepStrictEqual(kept.entries.map(({ key }) => key), [
        "signal:Go",
        "step:reserve/1",
        "step:charge/1",
        "step:ship/1"
      ])
      const replay = (before: ReadonlyArray<string>, after: ReadonlyArray<string>) =>
        Replay.run(Order, kept).pipe(
          Effect.provide(host(log, {}, [...before], [...after])),
          Effect.provide(stores)
        )
      yield* replay(["reserve", "charge"], ["ship"])
      yield* replay(["reserve", "charge"], ["ship", "thank"])
      const changed = yield* Effect.flip(replay(["reserve", "notify", "charge"], ["ship"]))
      assert.deepInclude(changed, {
        _tag: "NonDeterminism",
        position: 2,
        recorded: "step:charge/1",
        asked: ["step:notify/1"]
      })
      const shorter = yield* Effect.flip(replay(["reserve", "charge"], []))
      assert.deepInclude(shorter, { _tag: "NonDeterminism", position: 3, recorded: "step:ship/1", asked: [] })
      assert.deepStrictEqual(log, ["reserve", "charge", "ship"])
    })
  })
}

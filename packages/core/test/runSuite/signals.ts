/** Signals: typed, in order, buffered before the start, once each. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Activity from "effect/workflow/Activity"
import * as Workflow from "effect/workflow/Workflow"
import { Broker } from "../../src/Broker.ts"
import * as Run from "../../src/Run.ts"
import * as RunHost from "../../src/RunHost.ts"
import * as RunStore from "../../src/RunStore.ts"
import * as Signal from "../../src/Signal.ts"

class Approve extends Signal.make("Approve", { payload: { by: Schema.String } }) {}
class Stop extends Signal.make("Stop") {}

const workflow = <const Tag extends string, S extends Schema.Top>(tag: Tag, success: S) =>
  Workflow.make(tag, { payload: { id: Schema.String }, success, idempotencyKey: ({ id }) => id })

const First = workflow("First", Schema.String)
const InOrder = workflow("InOrder", Schema.Array(Schema.String))
const Within = workflow("Within", Schema.Array(Schema.Option(Schema.String)))
const Both = workflow("Both", Schema.Array(Schema.String))
const Drain = workflow("Drain", Schema.Array(Schema.String))
const Forward = workflow("Forward", Schema.Void)

const by = Effect.map(Signal.receive(Approve), (approval) => approval.by)

const bodies = Layer.mergeAll(
  First.toLayer(() => by),
  InOrder.toLayer(Effect.fn(function*() {
    const all: Array<string> = []
    while (all.length < 10) {
      all.push(yield* by)
      yield* Activity.make({ name: `note ${all.length}`, execute: Effect.void })
    }
    return all
  })),
  Within.toLayer(Effect.fn(function*() {
    const early = yield* Signal.receiveWithin(Approve, "30 millis")
    yield* Signal.receive(Stop)
    const late = yield* Signal.receiveWithin(Approve, "365 days")
    return [early, late].map(Option.map((approval) => approval.by))
  })),
  Both.toLayer(() => Effect.all([by, by, by], { concurrency: 3 })),
  Drain.toLayer(Effect.fn(function*() {
    yield* Signal.receive(Stop)
    return (yield* Signal.drain(Approve)).map((approval) => approval.by)
  })),
  Forward.toLayer(Effect.fn(function*({ id }) {
    const other = yield* Run.find(First, { id })
    yield* Effect.orDie(other.signal(Approve, { by: "a run" }))
  }))
)

export const signalPromises = (stores: Layer.Layer<RunStore.RunStore | Broker, unknown>): void => {
  const layer = (options?: RunHost.Options) =>
    bodies.pipe(Layer.provideMerge(RunHost.layer(options)), Layer.provideMerge(stores))

  /** In memory for as long as they run, and never longer than until they wait. */
  for (const maxResident of [undefined, 0]) {
    const where = maxResident === 0 ? "that leaves memory when it waits" : "that stays in memory"
    const live = (name: string, test: Effect.Effect<void, unknown, Layer.Success<ReturnType<typeof layer>>>) =>
      it.live(`a run ${where} ${name}`, () =>
        Effect.provide(test, layer(maxResident === undefined ? {} : { maxResident })))

    live(
      "receives a signal that was sent before it started",
      Effect.gen(function*() {
        const early = yield* Run.find(First, { id: "1" })
        yield* early.signal(Approve, { by: "ada" })
        const run = yield* Run.start(First, { id: "1" })
        assert.strictEqual(yield* run.await, "ada")
      })
    )

    live(
      "receives signals in the order in which they were sent",
      Effect.gen(function*() {
        const run = yield* Run.start(InOrder, { id: "1" })
        const names = Array.from({ length: 10 }, (_, index) => `${index}`)
        for (const name of names) yield* run.signal(Approve, { by: name })
        assert.deepStrictEqual(yield* run.await, names)
      })
    )

    live(
      "goes on without a signal that does not come in time, and receives it later",
      Effect.gen(function*() {
        const run = yield* Run.start(Within, { id: "1" })
        const broker = yield* Broker
        yield* Effect.repeat(Effect.delay(run.history, "5 millis"), {
          until: ({ entries }) => entries.some(({ key }) => key.startsWith("wake:"))
        })
        yield* run.signal(Approve, { by: "grace" })
        yield* run.signal(Stop)
        assert.deepStrictEqual(yield* run.await, [Option.none(), Option.some("grace")])
        assert.strictEqual(Option.getOrThrow(yield* broker.read(dashed(run.id))).state, "succeeded")
      })
    )

    live(
      "gives each receiver a signal of its own",
      Effect.gen(function*() {
        const run = yield* Run.start(Both, { id: "1" })
        for (const name of ["a", "b", "c"]) {
          yield* run.signal(Approve, { by: name })
          yield* Effect.sleep("5 millis")
        }
        assert.deepStrictEqual(yield* run.await, ["a", "b", "c"])
      })
    )

    live(
      "drains all that was sent before",
      Effect.gen(function*() {
        const run = yield* Run.start(Drain, { id: "1" })
        for (const name of ["a", "b", "c"]) yield* run.signal(Approve, { by: name })
        yield* run.signal(Stop)
        assert.deepStrictEqual(yield* run.await, ["a", "b", "c"])
      })
    )

    live(
      "signals another run",
      Effect.gen(function*() {
        const first = yield* Run.start(First, { id: "1" })
        yield* Forward.execute({ id: "1" })
        assert.strictEqual(yield* first.await, "a run")
      })
    )

    live(
      "is started with its first signal, or only gets it",
      Effect.gen(function*() {
        const run = yield* Run.signalWithStart(Both, { id: "1" }, Approve, { by: "a" })
        yield* Run.signalWithStart(Both, { id: "1" }, Approve, { by: "b" })
        yield* Run.signalWithStart(Both, { id: "1" }, Approve, { by: "c" })
        assert.deepStrictEqual(yield* run.await, ["a", "b", "c"])
      })
    )

    live(
      "passes over a stored signal that does not fit its Schema",
      Effect.gen(function*() {
        const store = yield* RunStore.RunStore
        const run = yield* Run.start(First, { id: "1" })
        yield* store.send([{ run: dashed(run.id), key: "signal:Approve", value: "{\"by\":1}" }])
        yield* run.signal(Approve, { by: "ada" })
        assert.strictEqual(yield* run.await, "ada")
      })
    )
  }

  it.live("Run.await fails if the run is cancelled", () =>
    Effect.gen(function*() {
      const run = yield* Run.start(First, { id: "1" })
      yield* run.cancel
      const error = yield* Effect.flip(run.await)
      assert.strictEqual(error.reason._tag, "Cancelled")
    }).pipe(Effect.provide(layer())))
}

const dashed = (id: string): string => id.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-")

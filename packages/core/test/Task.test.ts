import { assert, describe, it } from "@effect/vitest"
import {
  Chunk,
  DateTime,
  Effect,
  Exit,
  HashMap,
  HashSet,
  Layer,
  Logger,
  Option,
  Redacted,
  Schema,
  SchemaTransformation,
  Tracer
} from "effect"
import { SecureRandom } from "effect/crypto"
import { Broker, BrokerError, Limits, MemoryBroker, Task } from "../src/index.ts"
import { makeDesk, succeeded } from "./brokerSuite/kit.ts"

class OutOfInk extends Schema.TaggedError<OutOfInk>()("OutOfInk", { page: Schema.Int }) {}

class Render extends Task.make("Render", {
  payload: { url: Schema.String, at: Schema.optionalKey(Schema.Date) },
  success: Schema.Struct({ bytes: Schema.Int }),
  error: OutOfInk,
  queue: "images",
  retry: { attempts: 7 }
}) {}

class Keyed extends Task.make("Keyed", { payload: { id: Schema.String }, idempotencyKey: ({ id }) => id }) {}

const refused = <A, R>(effect: Effect.Effect<A, BrokerError.BrokerError, R>) =>
  Effect.map(Effect.flip(effect), (error) => error)

const recordOf = (id: string) =>
  Effect.flatMap(Broker.Broker, (broker) => Effect.map(broker.read(id), Option.getOrThrow))

describe("Task", () => {
  it("fills in defaults where a definition states nothing", () => {
    const Ping = Task.make("Ping")
    assert.strictEqual(Ping._tag, "Ping")
    assert.strictEqual(Ping.options.queue, "default")
    assert.strictEqual(Ping.options.priority, 5)
    assert.isTrue(Task.isTask(Ping))
    assert.isTrue(Task.isTask(Render))
    assert.isFalse(Task.isTask(() => undefined))
  })

  it("refuses options that make no sense when it is defined, with the task, the option and the value", () => {
    const refuses = (options: object, words: string) =>
      assert.throws(() => Task.make("Bad", options), `Task "Bad": ${words}`)
    refuses({ priority: 10 }, "priority is 10: ")
    refuses({ queue: "" }, "queue is \"\": ")
    refuses({ queue: "workflows" }, "queue is \"workflows\": Expected another queue: this one is for workflows")
    const long = "q".repeat(401)
    refuses({ queue: long }, `queue is "${long}": Expected at most 400 bytes`)
    refuses({ retry: { attempts: 0 } }, "attempts is 0: ")
    refuses({ placement: { cpus: -1 } }, "placement.cpus is -1: ")
    refuses({ placement: { memory: 0.5 } }, "placement.memory is 0.5: ")
    refuses({ placement: { resources: { accel: Number.NaN } } }, "placement.resources.accel is NaN: ")
    refuses({ placement: { concurrency: 0 } }, "placement.concurrency is 0: ")
    refuses({ placement: { cpus: 5, concurrency: 1_000 } }, "placement has cpus 5 and concurrency 1000: ")
    refuses({ placement: { cpus: 410 } }, "placement has cpus 410 and concurrency 10: ")
    refuses({ placement: { maxHosts: 1.5 } }, "placement.maxHosts is 1.5: ")
    refuses({ placement: { mode: "isolated" } }, "placement.mode is \"isolated\": ")
    refuses({ placement: { gpu: 1 } }, "placement.gpu is 1: ")
    for (const timeout of [0, -5, Infinity]) refuses({ timeout }, `timeout is ${timeout}: `)
    refuses({ timeout: "soon" }, "timeout is \"soon\": ")
    assert.throws(() => Task.make(""), /^Task "": /)
  })

  it.effect("stores the payload as its Schema encodes it, with the task's queue, attempts and tags", () =>
    Effect.gen(function*() {
      const at = new Date(0)
      const execution = yield* Task.enqueue(Render, { url: "a", at }, { priority: 9, tags: { customer: "7" } })
      const record = yield* recordOf(execution.id)
      assert.strictEqual(record.payload, "{\"url\":\"a\",\"at\":\"1970-01-01T00:00:00.000Z\"}")
      assert.strictEqual(record.queue, "images")
      assert.strictEqual(record.priority, 9)
      assert.deepStrictEqual(record.tags, { customer: "7" })
      assert.strictEqual(record.state, "queued")
      assert.isTrue(Option.isNone(yield* execution.poll))
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("answers the existing execution for a key that is taken", () =>
    Effect.gen(function*() {
      const first = yield* Task.enqueue(Keyed, { id: "a" })
      const second = yield* Task.enqueue(Keyed, { id: "a" })
      assert.strictEqual(second.id, first.id)
      assert.isFalse(first.deduplicated)
      assert.isTrue(second.deduplicated)
      const conflict = yield* refused(Task.enqueue(Keyed, { id: "b" }, { idempotencyKey: "a" }))
      assert.strictEqual(conflict.reason._tag, "KeyConflict")
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("takes payloads for the same that hold the same, in whatever order their Maps, Sets and records were filled", () =>
    Effect.gen(function*() {
      const entry = (a: number, b: number) => ({ a, b })
      const make = (turned: boolean) => {
        const turn = <A>(...all: ReadonlyArray<A>) => turned ? all.toReversed() : all
        return {
          record: Object.fromEntries(turn(["x", 1], ["y", 2])) as Record<string, number>,
          json: Object.fromEntries(turn(["x", [1, { p: 1, q: 2 }]], ["y", null])) as Schema.Json,
          map: new Map(turn(["k", entry(1, 2)], ["l", turned ? { b: 4, a: 3 } : { a: 3, b: 4 }])),
          set: new Set(turn("z", "a", "ü")),
          table: HashMap.fromIterable(turn<readonly [string, number]>(["k", 1], ["l", 2])),
          bag: HashSet.fromIterable(turn(1, 2, 3)),
          deep: [new Map([[1, new Set(turn(1, 2))]])],
          list: [2, 1]
        }
      }
      const Entry = Schema.Struct({ a: Schema.Int, b: Schema.Int })
      const Collected = Task.make("Collected", {
        payload: {
          record: Schema.Record(Schema.String, Schema.Int),
          json: Schema.Json,
          map: Schema.ReadonlyMap(Schema.String, Entry),
          set: Schema.ReadonlySet(Schema.String),
          table: Schema.HashMap(Schema.String, Schema.Int),
          bag: Schema.HashSet(Schema.Int),
          deep: Schema.Array(Schema.ReadonlyMap(Schema.Int, Schema.ReadonlySet(Schema.Int))),
          list: Schema.Array(Schema.Int)
        }
      })
      const options = { idempotencyKey: "k" }
      const first = yield* Task.enqueue(Collected, make(false), options)
      const second = yield* Task.enqueue(Collected, make(true), options)
      assert.deepStrictEqual([second.id, second.deduplicated], [first.id, true])
      const others = [
        { ...make(false), list: [1, 2] },
        { ...make(false), set: new Set(["z", "a"]) },
        { ...make(false), map: new Map([["k", entry(3, 4)], ["l", entry(1, 2)]]) }
      ]
      for (const other of others) {
        const conflict = yield* refused(Task.enqueue(Collected, other, options))
        assert.strictEqual(conflict.reason._tag, "KeyConflict")
      }
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("takes payloads for the same whose Sets and Maps the Schema wraps or renames", () =>
    Effect.gen(function*() {
      class Bag extends Schema.Class<Bag>("Bag")({ tags: Schema.ReadonlySet(Schema.String) }) {}
      interface Node {
        readonly own: ReadonlySet<string>
        readonly next: ReadonlyArray<Node>
      }
      const Node: Schema.Codec<Node> = Schema.Struct({
        own: Schema.ReadonlySet(Schema.String),
        next: Schema.Array(Schema.suspend(() => Node))
      }) as never
      const set = Schema.ReadonlySet(Schema.String)
      const Wrapped = Task.make("Wrapped", {
        payload: Schema.Struct({
          chunk: Schema.Chunk(set),
          option: Schema.OptionFromNullOr(set),
          some: Schema.Option(set),
          bag: Bag,
          node: Node,
          either: Schema.Union([set, Schema.String, Schema.Null]),
          tagged: Schema.Union([
            Schema.Struct({ _tag: Schema.tag("A"), a: set }),
            Schema.Struct({ _tag: Schema.tag("B"), a: Schema.String })
          ]),
          named: set,
          pairs: Schema.ReadonlyMap(set, set),
          secret: Schema.Redacted(set)
        }).pipe(Schema.encodeKeys({ named: "list", bag: "named" }))
      })
      const make = (...strings: ReadonlyArray<string>) => {
        const set = new Set(strings)
        const node = { own: set, next: [] }
        return {
          chunk: Chunk.of(set),
          option: Option.some(set),
          some: Option.some(set),
          bag: new Bag({ tags: set }),
          node: { own: set, next: [node, node] },
          either: set,
          tagged: { _tag: "A" as const, a: set },
          named: set,
          pairs: new Map([[set, set]]),
          secret: Redacted.make(set)
        }
      }
      const options = { idempotencyKey: "k" }
      const first = yield* Task.enqueue(Wrapped, make("x", "y"), options)
      const second = yield* Task.enqueue(Wrapped, make("y", "x"), options)
      assert.deepStrictEqual([second.id, second.deduplicated], [first.id, true])
      const conflict = yield* refused(Task.enqueue(Wrapped, { ...make("x", "y"), either: "x" }, options))
      assert.strictEqual(conflict.reason._tag, "KeyConflict")
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("tells payloads apart by the order of a list, whatever stands under its name in the value", () =>
    Effect.gen(function*() {
      const set = Schema.ReadonlySet(Schema.String)
      const list = Schema.Array(Schema.String)
      const words = ["first", "second"]
      const turned = words.toReversed()
      const conflict = Effect.fnUntraced(function*(payload: Schema.Top, one: unknown, other: unknown) {
        const task = Task.make("Ordered", { payload: payload as Schema.Codec<unknown> })
        const key = { idempotencyKey: SecureRandom.uuidV7Unsafe() }
        const first = yield* Task.enqueue(task, one, key)
        assert.strictEqual((yield* Task.enqueue(task, one, key)).id, first.id)
        const error = yield* refused(Task.enqueue(task, other, key))
        assert.strictEqual(error.reason._tag, "KeyConflict")
      })
      const swapped = Schema.Struct({ a: set, b: list }).pipe(Schema.encodeKeys({ a: "b", b: "a" }))
      yield* conflict(swapped, { a: new Set(words), b: words }, { a: new Set(words), b: turned })
      // Nothing says which of the two it was.
      const either = Schema.Struct({ a: Schema.Union([set, list]) })
      yield* conflict(either, { a: words }, { a: turned })
      const unknown = Schema.Struct({ a: Schema.Union([set, Schema.Json]) })
      yield* conflict(unknown, { a: words }, { a: turned })
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("tells lists apart that are written by way of a Set, and takes a recursive payload as quickly as any", () =>
    Effect.gen(function*() {
      const listed = Schema.ReadonlySet(Schema.String).pipe(
        Schema.decodeTo(
          Schema.Array(Schema.String),
          SchemaTransformation.transform<ReadonlyArray<string>, ReadonlySet<string>>({
            decode: (set) => [...set],
            encode: (list) => new Set(list)
          })
        )
      )
      class Listed extends Task.make("Listed", { payload: listed, idempotencyKey: () => "key" }) {}
      yield* Task.enqueue(Listed, ["a", "b"])
      const error = yield* Effect.flip(Task.enqueue(Listed, ["b", "a"]))
      assert.strictEqual(error.reason._tag, "KeyConflict")

      type Tree = { readonly tag: string; readonly of: Tree } | { readonly leaf: number }
      const branch = (tag: string) =>
        Schema.Struct({ tag: Schema.Literal(tag), of: Schema.suspend((): Schema.Codec<Tree> => tree) })
      const tree: Schema.Codec<Tree> = Schema.Union([
        Schema.Struct({ leaf: Schema.Int }),
        branch("a"),
        branch("b"),
        branch("c")
      ])
      class Deep extends Task.make("Deep", { payload: tree, idempotencyKey: () => "key" }) {}
      let deep: Tree = { leaf: 1 }
      for (let level = 0; level < 100; level++) deep = { tag: "b", of: deep }
      yield* Task.enqueue(Deep, deep)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses a limit that no row can carry, however it was set", () =>
    Effect.gen(function*() {
      for (const bytes of [Limits.maxCarriedBytes + 1, Infinity, Number.NaN, 0, 1.5]) {
        const error = yield* refused(
          Task.enqueue(Render, { url: "a" }).pipe(Effect.provideService(Limits.MaxPayloadBytes, bytes))
        )
        assert.match(error.message, /Limits\.MaxPayloadBytes is .*expected a whole number of bytes from 1 to 7340032/)
      }
      yield* Task.enqueue(Render, { url: "a" }).pipe(
        Effect.provideService(Limits.MaxPayloadBytes, Limits.maxCarriedBytes)
      )
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses what cannot be stored, naming what is wrong", () =>
    Effect.gen(function*() {
      const wrong = yield* refused(Task.enqueue(Render, { url: 1 } as never))
      assert.strictEqual(wrong.reason._tag, "InvalidPayload")
      assert.match(wrong.message, /Render.*url/s)
      for (const url of ["a\u0000b", "\ud800", "x\udc00", "\\\u0000"]) {
        const bad = yield* refused(Task.enqueue(Render, { url }))
        assert.strictEqual(bad.reason._tag, "InvalidPayload", JSON.stringify(url))
      }
      // Text that only looks like such an escape is text.
      for (const url of ["\\u0000", "\\\\u0000", "\u{1F600}", "__proto__"]) {
        const execution = yield* Task.enqueue(Render, { url })
        assert.strictEqual(JSON.parse((yield* recordOf(execution.id)).payload).url, url)
      }
      const both = yield* refused(
        Task.enqueue(Render, { url: "a" }, { delay: "1 second", runAt: DateTime.makeUnsafe(0) })
      )
      assert.match(both.message, /either delay or runAt/)
      const priority = yield* refused(Task.enqueue(Render, { url: "a" }, { priority: 1.5 }))
      assert.match(priority.message, /priority 1.5/)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses a payload that is not JSON, where its Schema takes anything", () =>
    Effect.gen(function*() {
      class Anything extends Task.make("Anything", { payload: Schema.Any }) {}
      const circle: { self?: unknown } = {}
      circle.self = circle
      for (const payload of [1n, circle, () => 1, Number.NaN, [Number.POSITIVE_INFINITY], { at: undefined }]) {
        const error = yield* refused(Task.enqueue(Anything, payload))
        assert.strictEqual(error.reason._tag, "InvalidPayload")
        assert.include(error.message, "Expected JSON value")
      }
      const { id } = yield* Task.enqueue(Anything, { a: [1, null, "x"] })
      assert.strictEqual((yield* recordOf(id)).payload, "{\"a\":[1,null,\"x\"]}")
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses options that no compiler has seen, and a key that its function does not give", () =>
    Effect.gen(function*() {
      for (const option of ["delay", "startBy", "keyTimeToLive"]) {
        const error = yield* refused(Task.enqueue(Render, { url: "a" }, { idempotencyKey: "k", [option]: "soon" }))
        assert.strictEqual(error.reason._tag, "InvalidPayload")
        assert.include(error.message, `${option} is "soon": expected a duration`)
      }
      class Broken extends Task.make("Broken", {
        payload: { id: Schema.String },
        idempotencyKey: ({ id }) => {
          if (id === "") throw new RangeError("no id")
          return 7 as never
        }
      }) {}
      const threw = yield* refused(Task.enqueue(Broken, { id: "" }))
      assert.include(threw.message, "its idempotencyKey failed: RangeError: no id")
      const number = yield* refused(Task.enqueue(Broken, { id: "a" }))
      assert.include(number.message, "the idempotency key is not a text")
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses a payload over the limit, and warns of a large one", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make((options) => void lines.push(String(options.message)))
      const limits = Layer.mergeAll(
        Layer.succeed(Limits.MaxPayloadBytes, 100),
        Layer.succeed(Limits.WarnPayloadBytes, 50),
        Logger.layer([logger])
      )
      yield* Effect.gen(function*() {
        yield* Task.enqueue(Render, { url: "short" })
        assert.lengthOf(lines, 0)
        yield* Task.enqueue(Render, { url: "ü".repeat(30) })
        assert.lengthOf(lines, 1)
        const error = yield* refused(Task.enqueue(Render, { url: "ü".repeat(60) }))
        assert(error.reason._tag === "PayloadTooLarge")
        assert.strictEqual(error.reason.bytes, 130)
      }).pipe(Effect.provide(limits))
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("writes nothing when one payload of many is wrong", () =>
    Effect.gen(function*() {
      const payloads = [{ id: "a" }, { id: 2 as never }]
      yield* refused(Task.enqueueAll(Keyed, payloads))
      const later = yield* Task.enqueue(Keyed, { id: "a" })
      assert.isFalse(later.deduplicated)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("stores the enqueuing span as the parent of what follows", () =>
    Effect.gen(function*() {
      const ids: Array<string> = []
      const capture = Broker.Broker.of({
        ...(yield* Broker.Broker),
        enqueue: (executions) => {
          ids.push(...executions.map((execution) => Option.getOrThrow(execution.traceparent)))
          return Effect.succeed(executions.map(({ id }) => ({ id, deduplicated: false })))
        }
      })
      const span = yield* Effect.withSpan(
        Effect.andThen(
          Effect.provideService(Task.enqueue(Render, { url: "a" }), Broker.Broker, capture),
          Effect.currentSpan
        ),
        "request"
      )
      assert.match(ids[0]!, new RegExp(`^00-${span.traceId}-[0-9a-f]{16}-01$`))
      assert.notInclude(ids[0]!, span.spanId)
    }).pipe(
      Effect.provide(MemoryBroker.layer),
      Effect.withTracer(Tracer.make({ span: (options) => new Tracer.NativeSpan(options) }))
    ))

  it.effect("tells a caller of an id that nobody knows", () =>
    Effect.gen(function*() {
      const execution = yield* Task.execution(Render, "01890000-0000-7000-8000-000000000000")
      const exit = yield* Effect.exit(execution.await)
      assert.isTrue(Exit.isFailure(exit))
      assert.include(String(exit), "this id is unknown")
      assert.strictEqual(yield* execution.cancel, "TooLate")
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("tells of an id that is another task's, whatever its Schema makes of the result", () =>
    Effect.gen(function*() {
      const Count = Task.make("Count", { success: Schema.Unknown })
      const { id } = yield* Task.enqueue(Render, { url: "a" })
      const execution = yield* Task.execution(Count, id)
      const isOther = (error: unknown) => {
        assert(error instanceof BrokerError.BrokerError && error.reason._tag === "InvalidId")
        assert.strictEqual(error.message, `Count: "${id}" is the id of an execution of Render`)
      }
      isOther(yield* Effect.flip(execution.poll))
      const worker = yield* (yield* makeDesk).hire({ lanes: [{ queue: "images", task: "Render" }] })
      yield* worker.settle(yield* worker.claimOne, succeeded("{\"bytes\":1}"))
      isOther(yield* Effect.flip(execution.poll))
      isOther(yield* Effect.flip(execution.await))
      assert.deepStrictEqual(yield* (yield* Task.execution(Render, id)).await, { bytes: 1 })
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses an id that is none when it is given, and takes a UUID however it is written", () =>
    Effect.gen(function*() {
      const { id } = yield* Task.enqueue(Render, { url: "a" })
      for (const wrong of ["nope", "", `${id} `, id.slice(1), `{${id}}`, undefined as never, "\u0000".repeat(1_000)]) {
        const error = yield* refused(Task.execution(Render, wrong))
        assert.strictEqual(error.reason._tag, "InvalidId", wrong)
        assert.include(error.message, "is not the id of an execution, which is a UUID")
        assert.isBelow(error.message.length, 200)
      }
      const execution = yield* Task.execution(Render, id.toUpperCase())
      assert.strictEqual(execution.id, id)
      assert.isTrue(Option.isNone(yield* execution.poll))
      assert.strictEqual(yield* execution.cancel, "Cancelled")
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

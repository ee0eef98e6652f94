/** What is told of a handler's death, whatever it threw. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Chunk, Data, Duration, Effect, Exit, HashMap, Option, Redacted, Result, Schema } from "effect"
import * as vm from "node:vm"
import { Handler, Limits, TaskError } from "../src/index.ts"

class SaveFailed extends Schema.TaggedError<SaveFailed>()("SaveFailed", {
  table: Schema.String,
  rows: Schema.Array(Schema.Int)
}) {}

class Refused extends Data.TaggedError("Refused")<{ readonly port: number; readonly cause?: unknown }> {}

/** Everything about it throws when it is looked at. */
class Untouchable extends Error {
  override get message(): string {
    throw new Error("no message")
  }
  override get stack(): string {
    throw new Error("no stack")
  }
  override get name(): string {
    throw new Error("no name")
  }
  override get cause(): unknown {
    throw new Error("no cause")
  }
}

const revoked = (): unknown => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const nameless = (): unknown =>
  Object.defineProperty(() => 1, "name", {
    get() {
      throw new Error("no name")
    }
  })

const circle = (): Error => {
  const first: Error = new Error("first")
  first.cause = new Error("second", { cause: first })
  return first
}

const itself = (): unknown => {
  const value: { self?: unknown } = {}
  value.self = value
  return value
}

/** As `await using` makes it: its errors are in no loop's reach. */
const suppressed = (error: unknown, suppressed: unknown): Error =>
  Object.defineProperties(new Error("An error was suppressed"), {
    name: { value: "SuppressedError" },
    error: { value: error },
    suppressed: { value: suppressed }
  })

class UserUnknown extends Schema.TaggedError<UserUnknown>()("UserUnknown", {
  name: Schema.String,
  message: Schema.String
}) {}

class Point {
  get x() {
    return 1
  }
}

const died = (thrown: unknown) => Handler.defect(Cause.die(thrown))

describe("Handler.defect", () => {
  const told: ReadonlyArray<readonly [what: string, thrown: unknown, name: string, detail: string]> = [
    ["an error", new TypeError("no such page"), "TypeError", "no such page"],
    [
      "a chain of causes",
      new Error("not saved", { cause: new RangeError("no room", { cause: "the disk is full" }) }),
      "Error",
      "not saved (cause: RangeError: no room (cause: Error: the disk is full))"
    ],
    [
      "the errors of an AggregateError",
      new AggregateError([new TypeError("one"), { two: 2 }, "three"], "many"),
      "AggregateError",
      "many (errors 0: TypeError: one) (errors 1: Object: {\"two\":2}) (errors 2: Error: three)"
    ],
    [
      "the fields of a tagged error",
      new SaveFailed({ table: "orders", rows: [1, 2] }),
      "SaveFailed",
      "{\"table\":\"orders\",\"rows\":[1,2]}"
    ],
    [
      "a tagged error with its cause",
      new Refused({ port: 5432, cause: new Error("ECONNREFUSED") }),
      "Refused",
      "{\"port\":5432} (cause: Error: ECONNREFUSED)"
    ],
    [
      "an error in a field",
      Object.assign(new Error("outer"), { original: new Error("inner") }),
      "Error",
      "outer (original: Error: inner)"
    ],
    [
      "what the system says",
      Object.assign(new Error("gone"), { code: "ENOENT" }),
      "Error",
      "gone {\"code\":\"ENOENT\"}"
    ],
    ["an object", { code: 1 }, "Object", "{\"code\":1}"],
    ["an object with a message", { message: "busy", code: 1 }, "Object", "busy {\"code\":1}"],
    ["a text", "boom", "Error", "boom"],
    ["nothing", undefined, "Error", "undefined"],
    ["null", null, "Error", "null"],
    ["a function", () => 1, "Error", "[function]"],
    ["a function with a name", function save() {}, "Error", "[function save]"],
    ["a class, thrown without new", Refused, "Error", "[class Refused]"],
    ["a function whose name cannot be read", nameless(), "Error", "[function]"],
    [
      "words of its own",
      { url: new URL("http://localhost/"), at: Duration.seconds(1) },
      "Object",
      "{\"url\":http://localhost/,\"at\":1000 millis}"
    ],
    ["what Effect made", Option.some([1, Result.fail("no")]), "Some", "some([1,failure(\"no\")])"],
    [
      "what a Chunk and a HashMap hold",
      { a: Chunk.make(1), b: HashMap.make(["k", 1]) },
      "Object",
      "{\"a\":Chunk([1]),\"b\":HashMap([[\"k\",1]])}"
    ],
    ["an object without a prototype", Object.create(null), "Error", "{}"],
    ["a list", [1, [2]], "Array", "[1,[2]]"],
    ["a message that is no text", Object.assign(new Error(), { message: { a: 1 } }), "Error", "{\"a\":1}"],
    ["a name that is no text", Object.assign(new Error("x"), { name: 5 }), "Error", "x {\"name\":5}"],
    ["what is redacted", { password: Redacted.make("hidden") }, "Object", "{\"password\":<redacted>}"],
    ["a circle of causes", circle(), "Error", "first (cause: Error: second)"],
    ["what holds itself", itself(), "Object", "{\"self\":[circular]}"],
    ["what throws when it is looked at", new Untouchable(), "Untouchable", "<its message cannot be read>"],
    ["a proxy that was revoked", revoked(), "Error", "<it cannot be described>"],
    [
      "what such a thing is in",
      new Error("outer", { cause: Object.assign(new SaveFailed({ table: "x", rows: [] }), { proxy: revoked() }) }),
      "Error",
      "outer (cause: SaveFailed: {\"table\":\"x\",\"rows\":[],\"proxy\":[threw]})"
    ],
    [
      "errors with holes between them",
      Object.assign(new Error("1 of 5 rows"), { errors: Object.assign([], { 3: new TypeError("row 3"), length: 5 }) }),
      "Error",
      "1 of 5 rows (errors 3: TypeError: row 3)"
    ],
    ["bytes", { page: new Uint8Array(1_000_000_000) }, "Object", "{\"page\":[1000000000 bytes]}"],
    [
      "both errors of a SuppressedError",
      suppressed(new Error("not closed", { cause: "the disk is full" }), new TypeError("not read")),
      "SuppressedError",
      "An error was suppressed (error: Error: not closed (cause: Error: the disk is full)) (suppressed: TypeError: not read)"
    ],
    [
      "errors by name, as of a validation",
      Object.assign(new Error("not valid"), { errors: { email: new TypeError("no such host"), age: new Error("-1") } }),
      "Error",
      "not valid (errors email: TypeError: no such host) (errors age: Error: -1)"
    ],
    [
      "a list of errors in what is no error",
      { errors: [{ message: "no such field", path: ["a"] }] },
      "Object",
      "{} (errors 0: Object: no such field {\"path\":[\"a\"]})"
    ],
    ["errors that are none", { errors: 5 }, "Object", "{\"errors\":5}"],
    [
      "a tagged error with a field that is called name",
      new UserUnknown({ name: "Ada", message: "not there" }),
      "UserUnknown",
      "not there {\"name\":\"Ada\"}"
    ],
    [
      "the causes of an error in what is none",
      { status: 500, error: new Error("outer", { cause: new RangeError("root") }) },
      "Object",
      "{\"status\":500} (error: Error: outer (cause: RangeError: root))"
    ],
    [
      "a response",
      new Response("secret", { status: 503, statusText: "busy", headers: { authorization: "secret" } }),
      "Response",
      "Response{\"type\":\"default\",\"url\":\"\",\"redirected\":false,\"status\":503,\"ok\":false,\"statusText\":\"busy\",\"bodyUsed\":false}"
    ],
    [
      "headers, without what is secret",
      { headers: new Headers({ "content-type": "text/plain", authorization: "Bearer 1" }) },
      "Object",
      "{\"headers\":Headers[[\"authorization\",\"<redacted>\"],[\"content-type\",\"text/plain\"]]}"
    ],
    [
      "headers in a list, without what is secret",
      { headers: [["content-type", "text/plain"], ["authorization", "Bearer 1"]], pwd: "1", passphrase: "1", jwt: "1" },
      "Object",
      "{\"headers\":[[\"content-type\",\"text/plain\"],[\"authorization\",\"<redacted>\"]],"
      + "\"pwd\":<redacted>,\"passphrase\":<redacted>,\"jwt\":<redacted>}"
    ],
    [
      "what a Map and a Set hold",
      { map: new Map([["a", { b: 1 }]]), set: new Set([1, "x"]) },
      "Object",
      "{\"map\":Map[[\"a\",{…}]],\"set\":Set[1,\"x\"]}"
    ],
    [
      "what only getters give",
      new Point(),
      "Point",
      "Point{\"x\":1}"
    ],
    [
      "what Effect calls unknown, without its marks",
      Object.assign(new Cause.UnknownError("x", "what failed"), { "~effect/Runtime/errorReported": false }),
      "UnknownError",
      "what failed (cause: Error: x)"
    ],
    [
      "a service that is not there, whatever its name",
      new Error("Service not found: a\nb"),
      "Error",
      "Service not found: a\nb. Provide it to the handler's layer: Worker.make({ handlers: Layer.provide(…, a\nb's layer) })"
    ],
    ["what Postgres cannot store", new Error("a\u0000b\ud800"), "Error", "a\uFFFDb\uFFFD"]
  ]
  for (const [what, thrown, name, detail] of told) {
    it(`tells of ${what}`, () => {
      const defect = died(thrown)
      assert.strictEqual(defect.name, name)
      assert.strictEqual(defect.detail, detail)
    })
  }

  it("tells the root of errors that are not linked by causes", () => {
    const aggregated = (leaf: Error) => new AggregateError([leaf], "level")
    const held = (leaf: Error) => Object.assign(new Error("level"), { original: leaf })
    const suppressing = (leaf: Error) => suppressed(leaf, new Error("beside"))
    const caused = (leaf: Error) => new Error("level", { cause: leaf })
    const named = (leaf: Error) => Object.assign(new Error("level"), { errors: { first: leaf } })
    const kinds = [aggregated, held, suppressing, caused, named]
    for (const around of [...kinds.map((kind) => [kind]), kinds]) {
      let error = new RangeError("the leaf of it")
      for (let level = 0; level < 50; level++) error = around[level % around.length]!(error)
      assert.include(died(error).detail, "RangeError: the leaf of it")
      assert.include(died(error).stack, "RangeError: the leaf of it")
    }
  })

  it("tells no secret, wherever it stands", () => {
    const held = {
      password: "hidden",
      "api-key": ["hidden"],
      headers: { authorization: "hidden" },
      tokens: 5,
      author: "Ada"
    }
    class Login extends Schema.Class<Login>("Login")({ user: Schema.String, password: Schema.String }) {}
    const things: ReadonlyArray<unknown> = [
      held,
      [held],
      new Map([["set-cookie", "hidden"]]),
      HashMap.make(["set-cookie", "hidden"]),
      Option.some(held),
      Option.some(HashMap.make(["authorization", "hidden"])),
      Chunk.of(Option.some(held)),
      Exit.fail(held),
      Cause.fail(held),
      new Login({ user: "Ada", password: "hidden" }),
      { login: new Login({ user: "Ada", password: "hidden" }), redacted: Option.some(Redacted.make("hidden")) },
      Object.assign(new Error("failed"), { token: "hidden" }),
      Object.assign(new SaveFailed({ table: "x", rows: [] }), held)
    ]
    for (const thing of things) {
      for (const cause of [Cause.die(thing), Cause.fail(thing)]) {
        const defect = Handler.defect(cause)
        assert.notInclude(JSON.stringify(defect), "hidden")
        assert.notStrictEqual(defect.detail, "<it cannot be described>")
      }
    }
    const { detail } = died(held)
    assert.strictEqual(
      detail,
      "{\"password\":<redacted>,\"api-key\":<redacted>,\"headers\":{\"authorization\":<redacted>},\"tokens\":5,\"author\":\"Ada\"}"
    )
  })

  it("looks at a bounded part of what shares its parts", () => {
    let parts: unknown = 1
    for (let level = 0; level < 100; level++) parts = [parts, parts]
    let objects: unknown = 1
    for (let level = 0; level < 100; level++) objects = { a: objects, b: objects }
    for (const dag of [parts, objects]) {
      for (const thing of [dag, Option.some(dag), Chunk.of(dag), HashMap.make(["k", dag]), Exit.fail(dag), { dag }]) {
        for (const cause of [Cause.die(thing), Cause.fail(thing), Cause.die({ thing })]) {
          assert.isAtMost(Handler.defect(cause).detail.length, Limits.maxDetailLength)
        }
      }
    }
  })

  it("shows no objects in the fields of an error that is not tagged: they may hold whole requests", () => {
    const error = Object.assign(new Error("failed"), {
      status: 500,
      config: { headers: { authorization: "secret" } },
      respond: () => "secret"
    })
    const { detail, stack } = died(error)
    assert.strictEqual(detail, "failed {\"status\":500}")
    assert.notInclude(stack, "secret")
  })

  it("has the stack of each cause, and none of the runtime's own frames", () => {
    const thrown = new SaveFailed({ table: "orders", rows: [] })
    const { stack } = died(new Error("not saved", { cause: thrown }))
    const lines = stack.split("\n")
    assert.strictEqual(lines[0], "Error: not saved")
    assert.include(lines[1], "Defect.test.ts")
    const cause = lines.indexOf("  [cause]: SaveFailed: {\"table\":\"orders\",\"rows\":[]}")
    assert.isAbove(cause, 1)
    assert.include(lines[cause + 1], "Defect.test.ts")
    const run = Effect.runSyncExit(Effect.suspend(() => Effect.die(new Error("in an Effect"))))
    assert(Exit.isFailure(run))
    assert.notMatch(Handler.defect(run.cause).stack, /~effect\/Effect/)
  })

  it("names the spans that failed, as Effect does", () => {
    const save = Effect.fn("Orders.save")(function*() {
      return yield* new SaveFailed({ table: "orders", rows: [] })
    })
    const exit = Effect.runSyncExit(save())
    assert(Exit.isFailure(exit))
    assert.include(Handler.defect(exit.cause).stack, "at Orders.save")
  })

  it("knows an error of another realm, and tells of one that failed twice once", () => {
    const foreign = vm.runInNewContext("Object.assign(new TypeError('elsewhere'), { config: { token: 'secret' } })")
    const { detail, name } = Handler.defect(Cause.combine(Cause.die(foreign), Cause.fail(foreign)))
    assert.deepStrictEqual([name, detail], ["TypeError", "elsewhere"])
  })

  it("tells of all that failed side by side, errors first", () => {
    const cause = Cause.combine(Cause.die(new TypeError("defect")), Cause.fail(new RangeError("error")))
    const { detail, name, stack } = Handler.defect(cause)
    assert.strictEqual(name, "RangeError")
    assert.strictEqual(detail, "error (beside: TypeError: defect)")
    assert.include(stack, "  [beside]: TypeError: defect")
  })

  it("is bounded, and keeps the root", () => {
    let chain = new Error("the root of it")
    for (let level = 0; level < 200; level++) chain = new Error(`level ${level} ${"x".repeat(5_000)}`, { cause: chain })
    const wide = Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`key ${index}`, "x".repeat(1_000)]))
    const many = new AggregateError(
      Array.from({ length: 10_000 }, () => new Error("y".repeat(5_000), { cause: chain }))
    )
    const endless = Object.assign(Object.create({ entries: () => {} }), {
      *[Symbol.iterator]() {
        for (;;) yield wide
      }
    })
    const bytes = new Uint8Array(100_000_000)
    const named = Object.assign(new Error("not valid"), {
      errors: Object.fromEntries(Object.keys(wide).map((key) => [key, chain]))
    })
    const thrown = [chain, wide, [wide, wide], { message: wide }, many, bytes, named, { endless, bytes }]
    for (const each of [...thrown, new Error("z".repeat(10_000_000))]) {
      const { detail, name, stack } = died(each)
      assert.isAtMost(name.length, Limits.maxDetailLength)
      assert.isAtMost(detail.length, Limits.maxDetailLength)
      assert.isAtMost(stack.length, Limits.maxStackLength)
    }
    for (const told of [died(chain).detail, died(chain).stack, died(many).detail]) {
      assert.include(told, "the root of it")
    }
  })
})

describe("TaskError", () => {
  const awaited = (reason: TaskError.Reason) =>
    Cause.pretty(Cause.fail(new TaskError.TaskError({ task: "Save", executionId: "0190-a", reason })))

  it("shows the causes and the stacks of a handler's death to whoever prints it", () => {
    const printed = awaited(died(new Error("not saved", { cause: new SaveFailed({ table: "orders", rows: [] }) })))
    assert.include(printed, "Save (0190-a): Error: not saved (cause: SaveFailed: {\"table\":\"orders\",\"rows\":[]})")
    assert.include(printed, "[cause]: Error: not saved")
    assert.match(printed, /\[cause\]: SaveFailed: .*\n.*Defect\.test\.ts/)
  })

  it("shows the traceback of a Python function", () => {
    const traceback =
      "Traceback (most recent call last):\n  File \"ml/train.py\", line 3, in train\nValueError: no rows"
    const printed = awaited(new TaskError.PythonError({ type: "ValueError", detail: "no rows", traceback }))
    assert.include(printed, "Save (0190-a): ValueError: no rows")
    assert.include(printed, "File \"ml/train.py\", line 3, in train")
  })

  it("bounds what a host says, and keeps the last words of a traceback", () => {
    const long = `first\u0000${"x".repeat(100_000)}last`
    const python = TaskError.bounded(new TaskError.PythonError({ type: long, detail: long, traceback: long }))
    assert(python._tag === "PythonError")
    assert.isTrue(python.traceback.endsWith("last") && python.detail.startsWith("first\uFFFD"))
    const reasons: ReadonlyArray<TaskError.Reason> = [
      python,
      new TaskError.Defect({ name: long, detail: long, stack: long }),
      new TaskError.Lost({ detail: long }),
      new TaskError.Quarantined({ losses: 3, detail: long }),
      new TaskError.OutOfMemory({ detail: long }),
      new TaskError.Undecodable({ what: "payload", detail: long }),
      new TaskError.Unschedulable({ detail: long })
    ]
    for (const reason of reasons) {
      const bounded = TaskError.bounded(reason)
      assert.strictEqual(bounded._tag, reason._tag)
      assert.isBelow(JSON.stringify(bounded).length, 2 * Limits.maxStackLength)
      assert.notInclude(JSON.stringify(bounded), "\\u0000")
    }
  })
})

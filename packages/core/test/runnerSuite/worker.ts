/** The worker of the suite. A runner with processes of its own loads this module in them. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as fs from "node:fs"
import { threadId } from "node:worker_threads"
import * as Handler from "../../src/Handler.ts"
import * as Worker from "../../src/Worker.ts"
import * as Tasks from "./tasks.ts"

const line = (file: string, text: string) => Effect.sync(() => fs.appendFileSync(file, `${text}\n`))

const until = (file: string) =>
  Effect.gen(function*() {
    while (!fs.existsSync(file)) yield* Effect.sleep("10 millis")
  })

const GreetLive = Tasks.Greet.toLayer(({ at, name }) =>
  name === ""
    ? Effect.fail(new Tasks.Refused({ at }))
    : Effect.succeed({ text: `hello ${name}`, at, next: Option.none() })
)

const EchoLive = Tasks.Echo.toLayer(Effect.succeed)

const offTheRoad = (message: string) => new RangeError(message, { cause: new Error("a sharp bend") })

const CrashLive = Tasks.Crash.toLayer(({ message }) => Effect.die(offTheRoad(message)))

const UndeclaredLive = Tasks.Undeclared.toLayer(() => Effect.fail({ code: 1 } as never))

const ItselfLive = Tasks.Itself.toLayer(() =>
  Effect.withFiber((fiber) => {
    queueMicrotask(() => fiber.interruptUnsafe())
    return Effect.never
  })
)

const PromisingLive = Tasks.Promising.toLayer(() => Promise.resolve() as unknown as Effect.Effect<void>)

const circle: { self?: unknown } = {}
circle.self = circle

const deep = () => Array.from({ length: 100_000 }).reduce<unknown>((inner) => [inner], 1)

class Unprintable extends Error {
  override get message(): string {
    throw new Error("not to be read")
  }
  override get stack(): string {
    throw new Error("not to be read")
  }
}

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const thrown: { readonly [What in typeof Tasks.thrown[number]]: () => unknown } = {
  undefined: () => undefined,
  null: () => null,
  symbol: () => Symbol("thrown"),
  function: () => () => 1,
  bare: () => Object.create(null),
  circle: () => circle,
  getters: () => new Unprintable(),
  proxy: revoked,
  long: () => new Error("x".repeat(1_000_000)),
  unstorable: () => new Error("\u0000 \ud800 \udc00")
}

const ThrowLive = Tasks.Throw.toLayer(({ what }) =>
  Effect.sync(() => {
    throw thrown[what]()
  })
)

const notJson: { readonly [What in typeof Tasks.notJson[number]]: () => unknown } = {
  bigint: () => [1n],
  circle: () => circle,
  undefined: () => undefined,
  hidden: () => ({ a: undefined }),
  function: () => () => 1,
  nan: () => Number.NaN,
  infinity: () => [Infinity],
  map: () => new Map(),
  deep
}

const AnythingLive = Tasks.Anything.toLayer(({ as, what }) => {
  const value = notJson[what]()
  return as === "result" ? Effect.succeed(value) : Effect.fail(new Tasks.Loose({ value }))
})

const LongLive = Tasks.Long.toLayer(({ as, length }) => {
  const text = "x".repeat(length)
  return as === "result" ? Effect.succeed(text) : Effect.fail(new Tasks.TooMuch({ text }))
})

const WaitLive = Tasks.Wait.toLayer(Effect.fnUntraced(function*({ file }) {
  yield* Effect.addFinalizer(() => line(file, "closed"))
  yield* line(file, "started")
  return yield* Effect.onInterrupt(Effect.never, () => line(file, "interrupted"))
}))

const UntidyLive = Tasks.Untidy.toLayer(({ file }) =>
  Effect.andThen(line(file, "started"), Effect.ensuring(Effect.never, Effect.die(new TypeError("not closed"))))
)

const FinishLive = Tasks.Finish.toLayer(Effect.fnUntraced(function*({ file, release }) {
  yield* line(file, "started")
  yield* until(release)
  yield* line(file, "ended")
}, Effect.uninterruptible))

const GateLive = Tasks.Gate.toLayer(Effect.fnUntraced(function*({ file, name, release }) {
  yield* line(file, `started ${name}`)
  yield* until(release)
  yield* line(file, `ended ${name}`)
  return name
}))

/** Built once wherever the worker's layer is. */
class Instance extends Context.Service<Instance, string>()("Instance") {
  static readonly layer = Layer.effect(Instance, Effect.sync(() => crypto.randomUUID()))
}

const Beside = Context.Reference<string>("Beside", { defaultValue: () => "nothing" })

const AboutLive = Tasks.About.toLayer(() =>
  Effect.gen(function*() {
    const { attempt, executionId, queue, task } = yield* Handler.Attempt
    const seen: Array<Record<string, any>> = []
    const logger = Logger.map(Logger.formatStructured, ({ annotations }) => seen.push(annotations))
    yield* Effect.logInfo("here I am").pipe(
      Effect.annotateLogs({ own: 1 }),
      Effect.provide(Logger.layer([logger]))
    )
    const span = yield* Effect.option(Effect.currentSpan)
    return {
      executionId,
      task,
      queue,
      attempt,
      annotations: seen[0]!,
      traceId: Option.match(span, { onNone: () => null, onSome: ({ traceId }) => traceId }),
      instance: yield* Instance,
      beside: yield* Beside,
      thread: `${process.pid}/${threadId}`
    }
  })
)

const TidyLive = Tasks.Tidy.toLayer(({ file }) => Effect.addFinalizer(() => line(file, "closed")))

const ElsewhereLive = Tasks.Elsewhere.toLayer(() => Effect.void)

export default Worker.make({
  tasks: [
    Tasks.Greet,
    Tasks.Echo,
    Tasks.Crash,
    Tasks.Undeclared,
    Tasks.Itself,
    Tasks.Promising,
    Tasks.Throw,
    Tasks.Anything,
    Tasks.Long,
    Tasks.Wait,
    Tasks.Untidy,
    Tasks.Finish,
    Tasks.Gate,
    Tasks.About,
    Tasks.Tidy,
    Tasks.Elsewhere,
    Tasks.Snake
  ],
  handlers: Layer.mergeAll(
    GreetLive,
    EchoLive,
    CrashLive,
    UndeclaredLive,
    ItselfLive,
    PromisingLive,
    ThrowLive,
    AnythingLive,
    LongLive,
    WaitLive,
    UntidyLive,
    FinishLive,
    GateLive,
    Layer.provide(AboutLive, Instance.layer),
    TidyLive,
    ElsewhereLive,
    Layer.succeed(Beside, "a reference")
  ),
  python: null
})

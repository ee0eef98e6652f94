/** How attempts end in a host's thread, without the host. */
import * as Task from "@effect-ray/core/Task"
import * as Worker from "@effect-ray/core/Worker"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Frame from "../src/Frame.ts"
import * as executor from "../src/host/executor.ts"
import { Told, toldOf } from "../src/host/told.ts"

class Itself extends Task.make("Itself") {}
class Untidy extends Task.make("Untidy") {}

const worker = Worker.make({
  tasks: [Itself, Untidy],
  handlers: Layer.merge(
    Itself.toLayer(() =>
      Effect.withFiber((fiber) => {
        queueMicrotask(() => fiber.interruptUnsafe())
        return Effect.never
      })
    ),
    Untidy.toLayer(() => Effect.ensuring(Effect.never, Effect.die(new TypeError("not closed"))))
  )
})

const frame = (type: number): Frame.Header => ({
  type,
  flags: 0,
  route: 0,
  supervisor: 1,
  call: 7,
  execution: "0198c5a4-1b2c-7d3e-8f40-5a6b7c8d9e0f",
  fence: 1
})

const options = (emit: executor.Options["emit"]): executor.Options => ({
  limits: { maxResultBytes: 1_000_000, maxPayloadBytes: 1_000_000, graceMillis: 5_000 },
  begun: new Int32Array(1),
  emit
})

/** The kind of the RESULT, and its text. */
const endOf = async (header: object, stopped: boolean) => {
  const result = Promise.withResolvers<readonly [kind: number, text: string]>()
  const decoder = new Frame.Decoder((frame) => result.resolve([Frame.kindOf(frame.flags), frame.text]))
  const made = await executor.make(worker, options((frames) => decoder.push(Buffer.concat(frames))))
  made.push(Frame.encode(frame(Frame.Type.RUN), `${JSON.stringify(header)}\nnull`))
  if (stopped) made.push(Frame.encode(frame(Frame.Type.CANCEL), ""))
  const ended = await result.promise
  await made.close()
  return ended
}

/** Whatever a layer may die of that cannot be looked at. */
const hostile = (): ReadonlyArray<readonly [what: string, thrown: unknown, words: string]> => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  const unreadable = new Proxy(new Error("not read"), {
    get() {
      throw new Error("no property")
    },
    getPrototypeOf() {
      throw new Error("no prototype")
    }
  })
  const fickle = (reads: number) => {
    const error = new Error("first")
    error.name = "Told"
    return Object.defineProperty(error, "message", { get: () => reads-- > 0 ? "first" : 5 })
  }
  return [
    ["a proxy that was revoked", proxy, "<it cannot be described>"],
    ["a proxy that refuses everything", unreadable, "<its message cannot be read>"],
    ["an error whose message is a text only once", fickle(1), "first"],
    ["an error whose message is no text", fickle(0), "5"],
    ["a toString that throws", {
      toString: () => {
        throw new Error("no words")
      }
    }, "toString"]
  ]
}

describe("executor", () => {
  for (const [what, thrown, words] of hostile()) {
    it(`tells of a layer that dies of ${what}`, async () => {
      assert.include(toldOf(thrown).message, words)
      for (const built of [Effect.die(thrown), Effect.fail(thrown)]) {
        const broken = Worker.make({
          tasks: [Itself],
          handlers: Layer.provide(Itself.toLayer(() => Effect.void), Layer.effectDiscard(built)) as Layer.Layer<any>
        })
        const error = await executor.make(broken, options(() => {})).then(() => undefined, (error: unknown) => error)
        assert.instanceOf(error, Told)
      }
    })
  }

  it("calls an attempt dead that nobody has stopped and that interrupts its own fiber", async () => {
    const [kind, text] = await endOf({ task: "Itself", attempt: 1, queue: "default" }, false)
    assert.strictEqual(kind, Frame.Kind.died)
    assert.strictEqual(JSON.parse(text).detail, "the handler interrupted itself")
  })

  it("calls an attempt stopped whose finalizer dies while it is being stopped", async () => {
    const [kind] = await endOf({ task: "Untidy", attempt: 1, queue: "default" }, true)
    assert.strictEqual(kind, Frame.Kind.interrupted)
  })

  it("calls an attempt dead whose header is none", async () => {
    for (const header of [{}, { task: "Itself", attempt: "1", queue: "default" }, []]) {
      const [kind, text] = await endOf(header, false)
      assert.strictEqual(kind, Frame.Kind.died)
      assert.strictEqual(JSON.parse(text).name, "UnreadableRun")
    }
  })
})

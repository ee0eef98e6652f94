/** How attempts end in a host's thread, without the host. */
import * as Task from "@effect-ray/core/Task"
import * as Worker from "@effect-ray/core/Worker"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Frame from "../src/Frame.ts"
import * as executor from "../src/host/executor.ts"

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

/** The kind of the RESULT, and its text. */
const endOf = async (header: object, stopped: boolean) => {
  const result = Promise.withResolvers<readonly [kind: number, text: string]>()
  const decoder = new Frame.Decoder((frame) => result.resolve([Frame.kindOf(frame.flags), frame.text]))
  const made = await executor.make(worker, {
    limits: { maxResultBytes: 1_000_000, maxPayloadBytes: 1_000_000, graceMillis: 5_000 },
    begun: new Int32Array(1),
    emit: (frames) => decoder.push(Buffer.concat(frames))
  })
  made.push(Frame.encode(frame(Frame.Type.RUN), `${JSON.stringify(header)}\nnull`))
  if (stopped) made.push(Frame.encode(frame(Frame.Type.CANCEL), ""))
  const ended = await result.promise
  await made.close()
  return ended
}

describe("executor", () => {
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

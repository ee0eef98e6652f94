import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { once } from "node:events"
import * as net from "node:net"
import { afterEach, beforeEach, vi } from "vitest"
import * as Frame from "../src/Frame.ts"
import { FrameSocket, pingMillis, silentMillis } from "../src/internal/frameSocket.ts"
import { plain } from "../src/internal/handshake.ts"

/** A socket and its other end, which keeps what it hears. */
const connected = Effect.gen(function*() {
  const heard: Array<number> = []
  const server = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const server = net.createServer()
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      return server
    }),
    (server) => Effect.sync(() => server.close())
  )
  const accepted = once(server, "connection") as Promise<[net.Socket]>
  const opened = Promise.withResolvers<void>()
  const closed = Promise.withResolvers<Error | undefined>()
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() =>
      new FrameSocket("127.0.0.1", (server.address() as net.AddressInfo).port, {
        onConnect: opened.resolve,
        onFrame: () => undefined,
        onClose: closed.resolve
      })
    ),
    (socket) => Effect.sync(() => socket.destroy())
  )
  const [other] = yield* Effect.promise(() => accepted)
  yield* Effect.promise(() => opened.promise)
  const decoder = new Frame.Decoder(({ type }) => heard.push(type))
  other.on("data", (chunk: Buffer) => decoder.push(chunk))

  /** Everything up to a frame that is sent now has been heard. */
  const heardAll = Effect.promise(async () => {
    socket.writer.frame(plain(Frame.Type.BYE), "")
    socket.writer.flush()
    while (heard.at(-1) !== Frame.Type.BYE) await once(other, "data")
    return heard.splice(0)
  })
  return { socket, heardAll, closed: Effect.promise(() => closed.promise) }
})

describe("FrameSocket", () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] }))
  afterEach(() => void vi.useRealTimers())

  it.effect("pings when the handshake is through, and not before", () =>
    Effect.gen(function*() {
      const { heardAll, socket } = yield* connected
      vi.advanceTimersByTime(pingMillis)
      assert.deepStrictEqual(yield* heardAll, [Frame.Type.BYE])

      socket.establish()
      vi.advanceTimersByTime(pingMillis)
      assert.deepStrictEqual(yield* heardAll, [Frame.Type.PING, Frame.Type.BYE])
    }))

  it.effect("ends a connection that says nothing", () =>
    Effect.gen(function*() {
      const { closed, socket } = yield* connected
      socket.establish()
      vi.advanceTimersByTime(silentMillis + pingMillis)
      assert.match((yield* closed)?.message ?? "", /silent for 15 s/)
    }))
})

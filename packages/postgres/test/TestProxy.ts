/** A wire between client and server that tests cut, and on which they count round trips. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import { TestServer } from "./TestPostgres.ts"

export class TestProxy extends Context.Service<TestProxy, {
  /** Lets the server finish the next statement, and cuts the connection instead of delivering its answer. */
  readonly loseNextAnswer: Effect.Effect<void>
  /** Cuts every connection. */
  readonly cut: Effect.Effect<void>
  /** Lets nothing more through on the connections there are, and says nothing. New ones work. */
  readonly freeze: Effect.Effect<void>
  /** How many round trips there have been. */
  readonly roundTrips: Effect.Effect<number>
}>()("@effect-ray/postgres/test/TestProxy") {}

/** The frontend's `Sync`, with which it ends what it sends in one go. */
const sync = "S".charCodeAt(0)

/** The server's `ReadyForQuery`, outside a transaction: what was asked has been committed. */
const ready = Buffer.from([0x5a, 0, 0, 0, 5, 0x49])

/** Counts `Sync` messages in a stream of frames; the first frame has no type. */
const makeCounter = (onSync: () => void) => {
  let buffer = Buffer.alloc(0)
  let started = false
  return (chunk: Buffer) => {
    buffer = Buffer.concat([buffer, chunk])
    while (true) {
      const type = started ? 1 : 0
      if (buffer.length < type + 4) return
      const length = type + buffer.readInt32BE(type)
      if (buffer.length < length) return
      if (started && buffer[0] === sync) onSync()
      started = true
      buffer = buffer.subarray(length)
    }
  }
}

const make = Effect.gen(function*() {
  const target = new URL(Redacted.value((yield* TestServer).url))
  const sockets = new Set<Net.Socket>()
  const frozen = new WeakSet<Net.Socket>()
  let losing = false
  let roundTrips = 0

  const server = Net.createServer((client) => {
    const upstream = Net.connect(Number(target.port), target.hostname)
    const pair = [client, upstream]
    const end = () => pair.forEach((socket) => socket.destroy())
    const count = makeCounter(() => roundTrips++)
    for (const socket of pair) {
      sockets.add(socket)
      socket.on("close", () => {
        sockets.delete(socket)
        end()
      })
      socket.on("error", end)
    }
    client.on("data", (chunk) => {
      if (frozen.has(client)) return
      count(chunk)
      upstream.write(chunk)
    })
    upstream.on("data", (chunk) => {
      if (frozen.has(upstream)) return true
      if (!losing) return client.write(chunk)
      if (chunk.subarray(-ready.length).equals(ready)) {
        losing = false
        end()
      }
      return true
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
  const url = new URL(target)
  url.hostname = "127.0.0.1"
  url.port = String((server.address() as Net.AddressInfo).port)
  return Context.make(TestServer, { url: Redacted.make(url.href) }).pipe(
    Context.add(TestProxy, {
      loseNextAnswer: Effect.sync(() => {
        losing = true
      }),
      freeze: Effect.sync(() => sockets.forEach((socket) => frozen.add(socket))),
      cut: Effect.sync(() => sockets.forEach((socket) => socket.destroy())),
      roundTrips: Effect.sync(() => roundTrips)
    })
  )
})

/** The server behind a proxy. */
export const layer = Layer.effectContext(make)

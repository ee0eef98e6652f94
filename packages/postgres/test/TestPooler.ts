/**
 * A pooler in transaction mode, as small as can be: it lends each client a connection of the server from the first message of a
 * transaction until the server says that it has ended, and what arrives on one that is lent to nobody is dropped. Clients
 * authenticate with the server, and the connection they did it on is the pool's from then on.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import { TestServer } from "./TestPostgres.ts"

export class TestPooler extends Context.Service<TestPooler, {
  readonly url: Redacted.Redacted<string>
  readonly port: number
  /** How many messages of the server were for nobody. */
  readonly dropped: Effect.Effect<number>
}>()("@effect-ray/postgres/test/TestPooler") {}

/** The most connections of the server that are kept. */
const maxUpstreams = 3

interface Upstream {
  readonly socket: Net.Socket
  client: Net.Socket | undefined
}

const terminate = "X".charCodeAt(0)
const readyForQuery = "Z".charCodeAt(0)
const idle = "I".charCodeAt(0)

/** Calls `each` with every whole message; before `typed` says so they have no type. */
const makeFrames = (typed: () => boolean, each: (message: Buffer) => void) => {
  let buffer = Buffer.alloc(0)
  return (chunk: Buffer) => {
    buffer = Buffer.concat([buffer, chunk])
    while (true) {
      const type = typed() ? 1 : 0
      if (buffer.length < type + 4) return
      const length = type + buffer.readInt32BE(type)
      if (buffer.length < length) return
      const message = buffer.subarray(0, length)
      buffer = buffer.subarray(length)
      each(message)
    }
  }
}

const make = Effect.gen(function*() {
  const target = new URL(Redacted.value((yield* TestServer).url))
  const sockets = new Set<Net.Socket>()
  const free: Array<Upstream> = []
  const waiting: Array<(upstream: Upstream) => void> = []
  let dropped = 0

  const release = (upstream: Upstream) => {
    upstream.client = undefined
    const next = waiting.shift()
    if (next !== undefined) next(upstream)
    else if (free.length < maxUpstreams) free.push(upstream)
    else upstream.socket.destroy()
  }

  const server = Net.createServer((client) => {
    sockets.add(client)
    let authenticated = false
    let started = false
    let upstream: Upstream | undefined
    let pending: Array<Buffer> = []

    /** The connection that this client begins on. */
    const connect = () => {
      const socket = Net.connect(Number(target.port), target.hostname)
      sockets.add(socket)
      const own: Upstream = { socket, client }
      const toClient = makeFrames(() => true, (message) => {
        if (own.client === undefined) dropped++
        else own.client.write(message)
        if (message[0] !== readyForQuery || message[5] !== idle) return
        if (own.client === client) {
          authenticated = true
          upstream = undefined
        }
        own.client?.emit("returned")
        release(own)
      })
      socket.on("data", toClient)
      socket.on("error", () => socket.destroy())
      socket.on("close", () => {
        sockets.delete(socket)
        const at = free.indexOf(own)
        if (at >= 0) free.splice(at, 1)
        own.client?.destroy()
      })
      return own
    }
    client.on("returned", () => {
      upstream = undefined
    })
    const send = (message: Buffer) => {
      if (upstream !== undefined) return void upstream.socket.write(message)
      pending.push(message)
      if (pending.length > 1) return
      const lend = (lent: Upstream) => {
        upstream = lent
        lent.client = client
        for (const each of pending) lent.socket.write(each)
        pending = []
      }
      const lent = free.pop()
      if (lent === undefined) waiting.push(lend)
      else lend(lent)
    }
    client.on(
      "data",
      makeFrames(() => started, (message) => {
        if (!started) {
          started = true
          upstream = connect()
          upstream.socket.write(message)
        } else if (!authenticated) upstream?.socket.write(message)
        else if (message[0] === terminate) client.end()
        else send(message)
      })
    )
    client.on("error", () => client.destroy())
    client.on("close", () => {
      sockets.delete(client)
      upstream?.socket.destroy()
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
  const { port } = server.address() as Net.AddressInfo
  const url = new URL(target)
  url.hostname = "127.0.0.1"
  url.port = String(port)
  return { url: Redacted.make(url.href), port, dropped: Effect.sync(() => dropped) }
})

export const layer = Layer.effect(TestPooler, make)

/** A wire to Postgres that counts what goes over it. */
import * as Effect from "effect/Effect"
import * as Net from "node:net"

/** The frontend's `Parse`: its type, four bytes of length, and the statement's name, which is empty unless it is kept. */
const parse = "P".charCodeAt(0)

/** Reads a stream of messages. The first has no type. */
const makeReader = (onMessage: (type: number, body: Buffer) => void) => {
  let buffer = Buffer.alloc(0)
  let started = false
  return (chunk: Buffer) => {
    buffer = Buffer.concat([buffer, chunk])
    while (buffer.length >= (started ? 5 : 4)) {
      const at = started ? 1 : 0
      const length = at + buffer.readInt32BE(at)
      if (buffer.length < length) return
      if (started) onMessage(buffer[0]!, buffer.subarray(5, length))
      started = true
      buffer = buffer.subarray(length)
    }
  }
}

/** Forwards to the server of a URL until the scope closes. */
export const make = Effect.fnUntraced(function*(url: string) {
  const { hostname, port } = new URL(url)
  const sockets = new Set<Net.Socket>()
  let prepared = 0
  let listening = false
  const server = Net.createServer((client) => {
    const upstream = Net.connect(Number(port), hostname)
    const end = () => [client, upstream].forEach((socket) => socket.destroy())
    const read = makeReader((type, body) => {
      if (type === parse && body[0] !== 0) prepared++
      if (body.includes("LISTEN ")) listening = true
    })
    for (const socket of [client, upstream]) sockets.add(socket.on("error", end).on("close", end))
    client.on("data", read).pipe(upstream)
    upstream.pipe(client)
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )
  const own = new URL(url)
  own.hostname = "127.0.0.1"
  own.port = String((server.address() as Net.AddressInfo).port)
  return {
    url: own.href,
    /** Statements that the server was asked to keep. */
    prepared: () => prepared,
    /** Whether anybody listens through it. */
    listening: () => listening
  }
})

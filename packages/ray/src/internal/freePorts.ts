/** Finds ports on loopback that are free at this moment. */
import * as Effect from "effect/Effect"
import * as net from "node:net"

const listen = (): Promise<net.Server> =>
  new Promise((resolve, reject) => {
    const server = net.createServer()
    server.once("error", reject)
    server.listen(0, "127.0.0.1", () => resolve(server))
  })

/**
 * Returns this number of different ports: all are kept open until the last one is found. They may be taken again before
 * they are used.
 */
export const freePorts = (count: number): Effect.Effect<Array<number>> =>
  Effect.promise(async () => {
    const servers = await Promise.all(Array.from({ length: count }, listen))
    const ports = servers.map((server) => (server.address() as net.AddressInfo).port)
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
    return ports
  })

/** What a host is told over its control pipe. `docs/gateway-protocol.md`, Hosts. */

export interface Orders {
  readonly gateway: { readonly host: string; readonly port: number }
  /** Proves this host to the gateway, once. Hex. */
  readonly token: string
  readonly hostId: string
  readonly node: string
  readonly env: Readonly<Record<string, string>>
  readonly limits: {
    readonly maxResultBytes: number
    readonly maxPayloadBytes: number
    readonly graceMillis: number
  }
  readonly placement: {
    readonly cpus: number
    readonly memory: number | null
    readonly concurrency: number
    readonly thread: "worker" | "main"
  }
}

/**
 * Reads the first line. The pipe is read on, because its end means that the actor is gone: `onEnd` is called then, whatever
 * the handlers are doing, for they run in other threads.
 */
export const read = (pipe: NodeJS.ReadableStream, onOrders: (orders: Orders) => void, onEnd: () => void): void => {
  let text = ""
  let read = false
  pipe.setEncoding("utf8")
  pipe.on("data", (chunk: string) => {
    if (read) return
    text += chunk
    const end = text.indexOf("\n")
    if (end < 0) return
    read = true
    onOrders(JSON.parse(text.slice(0, end)))
  })
  pipe.on("end", onEnd)
  pipe.on("error", onEnd)
}

/** The orders that a host receives over its control pipe. `docs/gateway-protocol.md`, Hosts. */

export interface Orders {
  /** Where the gateway listens. */
  readonly gateway: { readonly host: string; readonly port: number }
  /** The one-time token with which this host authenticates to the gateway, 32 bytes in hex. */
  readonly token: string
  /** The host's name. */
  readonly hostId: string
  /** The address of the host's node. */
  readonly node: string
  /** The variables that the worker names, with their values. */
  readonly env: Readonly<Record<string, string>>
  readonly limits: {
    /** The longest result that is sent, in bytes. */
    readonly maxResultBytes: number
    /** The longest payload that is accepted, in bytes. */
    readonly maxPayloadBytes: number
    /** How long a cancelled attempt may take to stop, in milliseconds. */
    readonly graceMillis: number
  }
  readonly placement: {
    /** The host's CPUs, which may be a fraction. */
    readonly cpus: number
    /** The host's memory, in bytes; null if there is no limit. */
    readonly memory: number | null
    /** How many attempts may run at once in one thread. */
    readonly concurrency: number
    /** Whether handlers run in handler threads or in the main thread. */
    readonly thread: "worker" | "main"
  }
}

/**
 * Reads the orders from the first line. Then it continues to read, because the end of the pipe means that the actor is
 * gone: `onEnd` is called then. Handlers cannot delay this, because they run in other threads.
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

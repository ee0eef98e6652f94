/** A socket that speaks frames: writes are gathered, heartbeats kept, silence ended. */
import * as net from "node:net"
import * as Frame from "../Frame.ts"
import { plain } from "./handshake.ts"

/** How often each side pings. */
export const pingMillis = 5_000

/** A connection that was silent for so long is ended. */
export const silentMillis = 15_000

export interface Events {
  readonly onConnect: () => void
  readonly onFrame: (frame: Frame.Frame) => void
  /** Exactly once. `error` has a `code` when the system gave one. */
  readonly onClose: (error: Error | undefined) => void
  /** Called as a ping goes out. */
  readonly onPing?: () => void
  readonly beforeFlush?: () => void
}

export class FrameSocket {
  readonly writer: Frame.Writer
  private readonly socket: net.Socket
  private readonly timer: NodeJS.Timeout
  private heard = performance.now()
  private error: Error | undefined

  constructor(host: string, port: number, events: Events) {
    const socket = net.connect({ host, port, noDelay: true })
    this.socket = socket
    this.writer = new Frame.Writer((parts) => {
      if (socket.destroyed) return
      if (parts.length === 1) socket.write(parts[0]!)
      else socket.write(Buffer.concat(parts))
    }, events.beforeFlush)
    const decoder = new Frame.Decoder(events.onFrame)
    socket.on("connect", events.onConnect)
    socket.on("data", (chunk: Buffer) => {
      this.heard = performance.now()
      try {
        decoder.push(chunk)
      } catch (error) {
        this.destroy(error instanceof Error ? error : new Error(String(error)))
      }
    })
    socket.on("error", (error) => this.error ??= error)
    socket.on("close", () => {
      clearInterval(this.timer)
      events.onClose(this.error)
    })
    this.timer = setInterval(() => {
      if (performance.now() - this.heard > silentMillis) {
        return this.destroy(new Error(`silent for ${silentMillis / 1_000} s`))
      }
      if (socket.readyState !== "open") return
      this.writer.frame(plain(Frame.Type.PING), "")
      events.onPing?.()
    }, pingMillis)
  }

  destroy(error?: Error): void {
    this.error ??= error
    this.socket.destroy()
  }

  /** Sends what is gathered and ends the connection. */
  end(): void {
    this.writer.flush()
    this.socket.end()
  }
}

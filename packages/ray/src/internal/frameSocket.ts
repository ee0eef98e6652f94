/** A socket that speaks frames: writes are gathered, heartbeats kept, silence ended. */
import * as net from "node:net"
import * as Frame from "../Frame.ts"
import { plain } from "./handshake.ts"

/** How often each side pings. */
export const pingMillis = 5_000

/** A connection that was silent for so long is ended. */
export const silentMillis = 15_000

/** Of what need not go at once, so many bytes are handed to the system at a time. */
export const maxUnsentBytes = 1024 * 1024

export interface Events {
  readonly onConnect: () => void
  readonly onFrame: (frame: Frame.Frame) => void
  /** Exactly once. `error` has a `code` when the system gave one. */
  readonly onClose: (error: Error | undefined) => void
  /** Called as a ping goes out. */
  readonly onPing?: () => void
  readonly beforeFlush?: () => void
  /** The system has taken what was written, all of it or nearly so. */
  readonly onRoom?: () => void
}

export class FrameSocket {
  readonly writer: Frame.Writer
  private readonly socket: net.Socket
  private readonly timer: NodeJS.Timeout
  private heard = performance.now()
  /** Pings are no part of a handshake. */
  private established = false
  private error: Error | undefined

  constructor(host: string, port: number, events: Events) {
    const socket = net.connect({ host, port, noDelay: true })
    this.socket = socket
    this.writer = new Frame.Writer((parts) => {
      if (socket.destroyed) return
      // What the system takes at once is not told by a drain.
      if (socket.write(parts.length === 1 ? parts[0]! : Buffer.concat(parts))) events.onRoom?.()
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
    socket.on("drain", () => events.onRoom?.())
    socket.on("error", (error) => this.error ??= error)
    socket.on("close", () => {
      clearInterval(this.timer)
      events.onClose(this.error)
    })
    this.timer = setInterval(() => {
      if (performance.now() - this.heard > silentMillis) {
        return this.destroy(new Error(`silent for ${silentMillis / 1_000} s`))
      }
      if (!this.established || socket.readyState !== "open") return
      this.writer.frame(plain(Frame.Type.PING), "")
      events.onPing?.()
    }, pingMillis)
  }

  /** The handshake is through: from now on the connection is kept alive. */
  establish(): void {
    this.established = true
  }

  /** Bytes that the system has not taken yet. */
  get unsent(): number {
    return this.socket.writableLength + this.writer.pending
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

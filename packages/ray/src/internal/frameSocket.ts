/** A socket for frames. It collects writes, sends pings, and ends a silent connection. */
import * as net from "node:net"
import * as Frame from "../Frame.ts"
import { plain } from "./handshake.ts"

/** How often each side pings, in milliseconds. */
export const pingMillis = 5_000

/** How long a connection may be silent before it is ended, in milliseconds. */
export const silentMillis = 15_000

/** How many bytes of less urgent frames are passed to the system at a time. */
export const maxUnsentBytes = 1024 * 1024

export interface Events {
  /** The connection is open. */
  readonly onConnect: () => void
  /** A frame has arrived. It is valid until this returns. */
  readonly onFrame: (frame: Frame.Frame) => void
  /** The connection has ended. Called exactly once. `error` has a `code` if the system reported one. */
  readonly onClose: (error: Error | undefined) => void
  /** A ping is being sent. */
  readonly onPing?: () => void
  /** Collected frames are about to be written. More can be added now. */
  readonly beforeFlush?: () => void
  /** The system has accepted all or nearly all bytes that were written. */
  readonly onRoom?: () => void
}

export class FrameSocket {
  readonly writer: Frame.Writer
  private readonly socket: net.Socket
  private readonly timer: NodeJS.Timeout
  private heard = performance.now()
  /** Whether the handshake has finished: no pings are sent before. */
  private established = false
  private error: Error | undefined

  constructor(host: string, port: number, events: Events) {
    const socket = net.connect({ host, port, noDelay: true })
    this.socket = socket
    this.writer = new Frame.Writer((parts) => {
      if (socket.destroyed) return
      // If the system accepts all bytes at once, no `drain` event follows.
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

  /** Called when the handshake has finished: from now on pings keep the connection alive. */
  establish(): void {
    this.established = true
  }

  /** How many bytes the system has not accepted yet. */
  get unsent(): number {
    return this.socket.writableLength + this.writer.pending
  }

  destroy(error?: Error): void {
    this.error ??= error
    this.socket.destroy()
  }

  /** Sends the collected frames and ends the connection. */
  end(): void {
    this.writer.flush()
    this.socket.end()
  }
}

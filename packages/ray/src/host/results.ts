/**
 * Sends results to the gateway as its credit allows.
 *
 * Results that fit into one frame may overtake those that travel in chunks. Only a limited amount of chunks is written
 * at a time, so that the others do not wait long behind them.
 */
import type * as Frame from "../Frame.ts"
import { type FrameSocket, maxUnsentBytes } from "../internal/frameSocket.ts"
import type { Credit } from "../internal/handshake.ts"

export class Results {
  private readonly whole: Array<Buffer> = []
  private readonly chunks: Array<Buffer> = []
  /** Calls whose last chunk has not arrived yet. */
  private readonly chunked = new Set<bigint>()
  private readonly credit = { frames: 0, bytes: 0 }
  private readonly socket: () => FrameSocket

  constructor(socket: () => FrameSocket) {
    this.socket = socket
  }

  /** Adds a RESULT, or a chunk of one. Its buffer belongs to this object from now on. */
  push(frame: Frame.Frame): void {
    const call = frame.wholeCall
    if (frame.hasMore) this.chunked.add(call)
    else if (!this.chunked.delete(call)) {
      this.whole.push(frame.bytes)
      return this.send()
    }
    this.chunks.push(frame.bytes)
    this.send()
  }

  /** Adds credit from the gateway. */
  grant(credit: Credit): void {
    this.credit.frames += credit.frames
    this.credit.bytes += credit.bytes
    this.send()
  }

  /** Sends what the credit allows. */
  send(): void {
    if (this.whole.length > 0) this.sendFrom(this.whole, Number.POSITIVE_INFINITY)
    if (this.chunks.length > 0) this.sendFrom(this.chunks, maxUnsentBytes - this.socket().unsent)
  }

  private sendFrom(queue: Array<Buffer>, room: number): void {
    const { credit } = this
    let sent = 0
    for (; sent < queue.length && credit.frames > 0 && credit.bytes > 0 && room > 0; sent++) {
      const frame = queue[sent]!
      credit.frames--
      credit.bytes -= frame.length
      room -= frame.length
      this.socket().writer.bytes(frame)
    }
    queue.splice(0, sent)
  }
}

/**
 * Keeps acknowledgements until the gateway is known to have received them.
 *
 * An acknowledgement may be lost with its connection. So it is kept until a ping that was sent after it is answered,
 * and sent again on the next connection.
 */

/** How many calls fit into one ACK, as packed u64s. */
const maxInFrame = 32_768

export class Acknowledgements {
  /** Those that have not been sent, and those that were sent after the last ping. */
  private fresh: Array<number> = []
  private sent: Array<number> = []
  /** For each unanswered ping, the oldest first, those that were sent before it. */
  private doubtful: Array<ReadonlyArray<number>> = []

  add(call: number): void {
    this.fresh.push(call)
  }

  /** Called when a ping is sent. */
  pinged(): void {
    this.doubtful.push(this.sent)
    this.sent = []
  }

  /** Called when the oldest ping was answered: everything sent before it has arrived. */
  answered(): void {
    this.doubtful.shift()
  }

  /** Called on a new connection. Those that may not have arrived are sent again. */
  again(): void {
    this.fresh = [...this.doubtful.flat(), ...this.sent, ...this.fresh]
    this.doubtful = []
    this.sent = []
  }

  /** Returns the bodies of the ACK frames to send now. */
  take(supervisor: number): ReadonlyArray<Buffer> {
    const bodies: Array<Buffer> = []
    for (let at = 0; at < this.fresh.length; at += maxInFrame) {
      const part = this.fresh.slice(at, at + maxInFrame)
      const body = Buffer.allocUnsafe(part.length * 8)
      for (let index = 0; index < part.length; index++) {
        body.writeUInt16BE(supervisor, index * 8)
        body.writeUIntBE(part[index]!, index * 8 + 2, 6)
      }
      bodies.push(body)
    }
    if (bodies.length > 0) {
      // Appends in place, because there are thousands between two pings.
      for (const call of this.fresh) this.sent.push(call)
      this.fresh = []
    }
    return bodies
  }
}

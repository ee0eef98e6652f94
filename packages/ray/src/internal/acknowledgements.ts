/**
 * Calls whose ends the gateway may forget, until it is known to have heard.
 *
 * An acknowledgement may be lost with its connection, so it is kept until a ping that went out after it is answered, and
 * told again on the next connection.
 */

/** Packed u64s that fit in one ACK. */
const maxInFrame = 32_768

export class Acknowledgements {
  /** Not sent yet, and sent since the last ping. */
  private fresh: Array<number> = []
  private sent: Array<number> = []
  /** For each ping that is not answered, oldest first, what went out before it. */
  private doubtful: Array<ReadonlyArray<number>> = []

  add(call: number): void {
    this.fresh.push(call)
  }

  /** A ping goes out. */
  pinged(): void {
    this.doubtful.push(this.sent)
    this.sent = []
  }

  /** The oldest ping was answered: what went before it has arrived. */
  answered(): void {
    this.doubtful.shift()
  }

  /** On another connection all is told again that may not have arrived. */
  again(): void {
    this.fresh = [...this.doubtful.flat(), ...this.sent, ...this.fresh]
    this.doubtful = []
    this.sent = []
  }

  /** The bodies of the ACK frames to be sent now. */
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
      // In place: there are thousands of them between two pings.
      for (const call of this.fresh) this.sent.push(call)
      this.fresh = []
    }
    return bodies
  }
}

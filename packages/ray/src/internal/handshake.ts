/**
 * The handshake, in which both ends prove that they know a key without sending it. `docs/gateway-protocol.md`,
 * Authentication.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import * as Frame from "../Frame.ts"

/** Returns 16 random bytes in hex. */
export const nonce = (): string => randomBytes(16).toString("hex")

const proof = (key: string, label: "client" | "gateway", client: string, gateway: string): string =>
  createHmac("sha256", Buffer.from(key, "hex")).update(`${label}|${client}|${gateway}`).digest("hex")

const equal = (a: string, b: string): boolean => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}

/** Returns the header of a frame that concerns no call. */
export const plain = (type: number): Frame.Header => ({
  type,
  flags: 0,
  route: 0,
  supervisor: 0,
  call: 0,
  execution: Frame.noExecution,
  fence: 0
})

/** The body of HELLO, with which a client introduces itself. */
export interface Hello {
  /** What the client is. */
  readonly role: "supervisor" | "host"
  /** The supervisor's id, or the host's name. */
  readonly id: string
  /** How long the gateway keeps a supervisor without a connection, in seconds. 0 for a host. */
  readonly leaseSeconds: number
  /** The longest payload that the client sends or accepts, in bytes. */
  readonly maxBodyBytes: number
  /** The id of a host's process. */
  readonly pid?: number
  /** The address of a host's node. */
  readonly node?: string
  /** How many calls a host can run at once. */
  readonly slots?: number
}

/** How much the sender may send. */
export interface Credit {
  /** The number of frames. */
  readonly frames: number
  /** The number of bytes, including headers. */
  readonly bytes: number
}

/** The gateway's response when it accepts the client. */
export interface Welcome {
  /** The number that the gateway gave the client. */
  readonly number: number
  /** The gateway's instance: each start of a gateway has another one. */
  readonly instance: string
  /** How much the client may send at first. */
  readonly credit: Credit
}

/** The code with which a gateway that is ending refuses a client. The next gateway may accept it. */
const stopping = "stopping"

/** The client's part of the handshake. */
export class Handshake {
  private readonly nonce = nonce()
  private instance = ""
  private readonly key: string
  private readonly write: (type: number, body: string) => void
  constructor(key: string, write: (type: number, body: string) => void) {
    this.key = key
    this.write = write
  }

  start(hello: Hello): void {
    this.write(Frame.Type.HELLO, JSON.stringify({ ...hello, protocols: [Frame.protocol], nonce: this.nonce }))
  }

  /**
   * Handles a frame of the handshake. Returns the welcome when the handshake has finished. Throws `WrongSecret`,
   * `Refused` or another `FrameError`.
   */
  frame(frame: Frame.Frame): Welcome | undefined {
    const body = JSON.parse(frame.text)
    switch (frame.type) {
      case Frame.Type.CHALLENGE: {
        if (!equal(String(body.proof), proof(this.key, "gateway", this.nonce, String(body.nonce)))) {
          throw new WrongSecret("the gateway does not know the secret")
        }
        this.instance = String(body.instance)
        this.write(
          Frame.Type.PROOF,
          JSON.stringify({ proof: proof(this.key, "client", this.nonce, String(body.nonce)) })
        )
        return undefined
      }
      case Frame.Type.WELCOME:
        return { instance: this.instance, ...body }
      case Frame.Type.REFUSED:
        if (body.code === stopping) throw new Frame.FrameError(String(body.reason))
        throw new Refused(String(body.reason))
      default:
        throw new Frame.FrameError(`a frame of type ${frame.type} before the handshake ended`)
    }
  }
}

/** One end has refused the other. Another try would end in the same way. */
export class Refused extends Frame.FrameError {}

/** The server does not know the secret, so it is not the expected gateway. */
export class WrongSecret extends Refused {}

/** Both ends prove that they know a key without sending it. `docs/gateway-protocol.md`, Authentication. */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import * as Frame from "../Frame.ts"

/** 16 random bytes, hex. */
export const nonce = (): string => randomBytes(16).toString("hex")

const proof = (key: string, label: "client" | "gateway", client: string, gateway: string): string =>
  createHmac("sha256", Buffer.from(key, "hex")).update(`${label}|${client}|${gateway}`).digest("hex")

const equal = (a: string, b: string): boolean => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)]
  return left.length === right.length && timingSafeEqual(left, right)
}

/** A frame that concerns no call. */
export const plain = (type: number): Frame.Header => ({
  type,
  flags: 0,
  route: 0,
  supervisor: 0,
  call: 0,
  execution: Frame.noExecution,
  fence: 0
})

/** How a client introduces itself. */
export interface Hello {
  readonly role: "supervisor" | "host"
  readonly id: string
  readonly leaseSeconds: number
  readonly maxBodyBytes: number
  readonly pid?: number
  readonly node?: string
  readonly slots?: number
}

export interface Credit {
  readonly frames: number
  readonly bytes: number
}

export interface Welcome {
  readonly number: number
  readonly instance: string
  readonly credit: Credit
}

/** The code of a refusal by a gateway that is on its way out: the next one may take the client. */
const stopping = "stopping"

/** The client's part of the handshake, as frames come in. Throws a `FrameError` for a gateway that does not know the key. */
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

  /** The welcome, when this frame was it. */
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

/** One end does not want the other: trying again would end the same way. */
export class Refused extends Frame.FrameError {}

/** This is not the gateway that it was taken for. */
export class WrongSecret extends Refused {}

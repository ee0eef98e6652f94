/**
 * The frames between supervisors, gateway and hosts, which `docs/gateway-protocol.md` specifies.
 *
 * A frame is a header of 44 bytes and a body. `Writer` collects frames and emits them together, once per turn of the
 * event loop. `Decoder` finds them again in the pieces that the socket delivers. Neither copies more than once, and
 * neither reads a body, because tens of thousands of frames pass here each second.
 */

/** The version of the protocol. @category constants */
export const protocol = 1

/** The length of a header, in bytes. @category constants */
export const headerBytes = 44

/** The longest body of one frame, in bytes. Longer bodies travel in chunks. @category constants */
export const maxBodyBytes = 256 * 1024

/** The flag on every chunk of a body except the last. @category constants */
export const more = 1

/** The flag on a RUN that must have a host to itself. @category constants */
export const alone = 2

/** Returns the flags of a RUN with this priority, from 0 to 9. @category constructors */
export const priorityFlags = (priority: number): number => priority << 4

/** The types of frames. @category constants */
export const Type = {
  HELLO: 1,
  CHALLENGE: 2,
  PROOF: 3,
  WELCOME: 4,
  REFUSED: 5,
  RUN: 10,
  STARTED: 11,
  RESULT: 12,
  ACK: 13,
  CANCEL: 14,
  LOST: 15,
  CREDIT: 17,
  PING: 18,
  PONG: 19,
  POOL: 20,
  POOL_STATE: 21,
  HOST_UP: 22,
  HOST_DOWN: 23,
  DRAIN: 24,
  BYE: 25
} as const

/** The kinds of a RESULT, in bits 8 to 11 of its flags. @category constants */
export const Kind = { success: 0, failure: 1, died: 2, interrupted: 3, unconfirmed: 4 } as const

/** Returns the flags of a RESULT of this kind. @category constructors */
export const kindFlags = (kind: number): number => kind << 8

/** Returns the kind in the flags of a RESULT. @category getters */
export const kindOf = (flags: number): number => (flags >> 8) & 0xf

/**
 * The fields of a header, except length and version.
 *
 * @category models
 */
export interface Header {
  /** One of `Type`. */
  readonly type: number
  /** `more`, `alone`, a priority, or the kind of a RESULT; otherwise 0. */
  readonly flags: number
  /** The pool's number on a RUN and a CANCEL, the host's number on frames about a call from a host; otherwise 0. */
  readonly route: number
  /** The supervisor's number: the top 16 bits of the call. 0 on frames that concern no call. */
  readonly supervisor: number
  /** The number that the supervisor gave the call: the other 48 bits. 0 on frames that concern no call. */
  readonly call: number
  /** The execution's UUID, with dashes. `noExecution` on frames that concern no call. */
  readonly execution: string
  /** The fence of the attempt, at most 2^53 - 1. */
  readonly fence: number
}

/**
 * The header of a response. Its call, execution and fence are copied from the header in `to`.
 *
 * @category models
 */
export interface Reply {
  /** One of `Type`. */
  readonly type: number
  /** The kind of a RESULT; otherwise 0. */
  readonly flags: number
  /** The host's number. */
  readonly route: number
  /** The header that it responds to. */
  readonly to: Buffer
}

/** The bytes received are not a valid frame. Their connection cannot be used any more. @category errors */
export class FrameError extends Error {
  override readonly name = "FrameError"
}

const dashes = /-/g

const writeHeader = (buffer: Buffer, at: number, header: Header | Reply, flags: number, bodyBytes: number): void => {
  if ("to" in header) {
    header.to.copy(buffer, at + 12, 12, headerBytes)
  } else {
    buffer.writeUInt16BE(header.supervisor, at + 12)
    buffer.writeUIntBE(header.call, at + 14, 6)
    if (header.execution === noExecution) buffer.fill(0, at + 20, at + 36)
    else buffer.write(header.execution.replace(dashes, ""), at + 20, 16, "hex")
    buffer.writeUInt32BE(Math.floor(header.fence / 0x1_0000_0000), at + 36)
    buffer.writeUInt32BE(header.fence >>> 0, at + 40)
  }
  buffer.writeUInt32BE(bodyBytes, at)
  buffer[at + 4] = protocol
  buffer[at + 5] = header.type
  buffer.writeUInt16BE(flags, at + 6)
  buffer.writeUInt32BE(header.route, at + 8)
}

/** Encodes one frame. The body must fit into one frame. @category encoding */
export const encode = (header: Header | Reply, body: string): Buffer => {
  const bytes = Buffer.byteLength(body)
  const frame = Buffer.allocUnsafe(headerBytes + bytes)
  writeHeader(frame, 0, header, header.flags, bytes)
  frame.write(body, headerBytes, "utf8")
  return frame
}

/** The execution in frames that concern no call. @category constants */
export const noExecution = ""

/**
 * A frame in a buffer. It is valid until the handler that received it returns: copy what must last longer.
 *
 * @category models
 */
export class Frame {
  readonly buffer: Buffer
  /** Where the header begins. */
  readonly at: number
  /** Where the body ends. */
  readonly end: number
  constructor(buffer: Buffer, at: number, end: number) {
    this.buffer = buffer
    this.at = at
    this.end = end
  }
  get type(): number {
    return this.buffer[this.at + 5]!
  }
  get flags(): number {
    return this.buffer.readUInt16BE(this.at + 6)
  }
  get route(): number {
    return this.buffer.readUInt32BE(this.at + 8)
  }
  /** The supervisor's number. */
  get supervisor(): number {
    return this.buffer.readUInt16BE(this.at + 12)
  }
  /** The number that the supervisor gave the call. */
  get call(): number {
    return this.buffer.readUIntBE(this.at + 14, 6)
  }
  /** The whole call, including the supervisor's number. It identifies a call within a host. */
  get wholeCall(): bigint {
    return this.buffer.readBigUInt64BE(this.at + 12)
  }
  /** The execution's UUID, with dashes. */
  get execution(): string {
    const hex = this.buffer.toString("hex", this.at + 20, this.at + 36)
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  }
  get fence(): number {
    return this.buffer.readUInt32BE(this.at + 36) * 0x1_0000_0000 + this.buffer.readUInt32BE(this.at + 40)
  }
  /** Whether another chunk of the same body follows. */
  get hasMore(): boolean {
    return (this.flags & more) !== 0
  }
  /** The length of the body, in bytes. */
  get bodyBytes(): number {
    return this.end - this.at - headerBytes
  }
  /** A view of the body. */
  get body(): Buffer {
    return this.buffer.subarray(this.at + headerBytes, this.end)
  }
  /** The body as text. */
  get text(): string {
    return this.buffer.toString("utf8", this.at + headerBytes, this.end)
  }
  /** A view of header and body. */
  get bytes(): Buffer {
    return this.buffer.subarray(this.at, this.end)
  }
}

/**
 * Finds frames in a stream of bytes.
 *
 * @category decoding
 */
export class Decoder {
  private rest: Buffer | undefined
  private readonly onFrame: (frame: Frame) => void
  constructor(onFrame: (frame: Frame) => void) {
    this.onFrame = onFrame
  }
  /** Decodes the next bytes of the stream. Throws a `FrameError` for the first broken frame. */
  push(chunk: Buffer): void {
    const buffer = this.rest === undefined ? chunk : Buffer.concat([this.rest, chunk])
    this.rest = undefined
    let at = 0
    while (buffer.length - at >= headerBytes) {
      const length = buffer.readUInt32BE(at)
      if (length > maxBodyBytes) throw new FrameError(`a body of ${length} bytes is over the limit of ${maxBodyBytes}`)
      if (buffer[at + 4] !== protocol) throw new FrameError(`a frame of protocol ${buffer[at + 4]}`)
      const end = at + headerBytes + length
      if (end > buffer.length) break
      this.onFrame(new Frame(buffer, at, end))
      at = end
    }
    if (at < buffer.length) this.rest = buffer.subarray(at)
  }
}

/**
 * Joins the chunks of long bodies.
 *
 * @category decoding
 */
export class Assembler {
  private readonly parts = new Map<string, { bytes: number; readonly chunks: Array<Buffer> }>()
  private readonly maxBytes: number
  constructor(maxBytes: number) {
    this.maxBytes = maxBytes
  }
  /**
   * Adds a chunk. Returns the whole body if it was the last chunk, and undefined otherwise. Throws a `FrameError` if
   * the body is over the limit.
   */
  add(frame: Frame): Buffer | undefined {
    if (!frame.hasMore && this.parts.size === 0) return frame.body
    const key = `${frame.type}:${frame.wholeCall}`
    const part = this.parts.get(key)
    if (!frame.hasMore && part === undefined) return frame.body
    const known = part ?? { bytes: 0, chunks: [] }
    known.bytes += frame.bodyBytes
    if (known.bytes > this.maxBytes) throw new FrameError(`a body of over ${this.maxBytes} bytes`)
    known.chunks.push(Buffer.from(frame.body))
    if (frame.hasMore) {
      this.parts.set(key, known)
      return undefined
    }
    this.parts.delete(key)
    return Buffer.concat(known.chunks, known.bytes)
  }
}

const slabBytes = 1024 * 1024

/**
 * Collects frames and emits all of them together, at the end of the current turn of the event loop.
 *
 * @category encoding
 */
export class Writer {
  private slab = Buffer.allocUnsafeSlow(slabBytes)
  private from = 0
  private to = 0
  private full: Array<Buffer> = []
  private scheduled = false
  private readonly emit: (bytes: Array<Buffer>) => void
  /** Called before each flush, to add the last frames to it. */
  private readonly beforeFlush: (() => void) | undefined
  constructor(emit: (bytes: Array<Buffer>) => void, beforeFlush?: () => void) {
    this.emit = emit
    this.beforeFlush = beforeFlush
  }

  private room(bytes: number): void {
    if (this.slab.length - this.to < bytes) {
      if (this.to > this.from) this.full.push(this.slab.subarray(this.from, this.to))
      // Emitted bytes may still be read, so a slab is never used again.
      this.slab = Buffer.allocUnsafeSlow(Math.max(slabBytes, bytes))
      this.from = 0
      this.to = 0
    }
    this.schedule()
  }

  /** Schedules a flush, unless one is scheduled already. */
  schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(this.flush)
  }

  /** Adds a frame, in several chunks if the body is long. */
  frame(header: Header | Reply, body: string | Uint8Array): void {
    if (typeof body !== "string") return this.chunks(header, body)
    // A UTF-16 unit takes at most three bytes.
    if (body.length * 3 > maxBodyBytes) return this.chunks(header, Buffer.from(body))
    this.room(headerBytes + body.length * 3)
    const bytes = body.length === 0 ? 0 : this.slab.write(body, this.to + headerBytes, "utf8")
    this.header(header, header.flags, bytes)
  }

  private chunks(header: Header | Reply, body: Uint8Array): void {
    let offset = 0
    do {
      const part = body.subarray(offset, offset + maxBodyBytes)
      offset += part.length
      this.room(headerBytes + part.length)
      this.slab.set(part, this.to + headerBytes)
      this.header(header, offset < body.length ? header.flags | more : header.flags, part.length)
    } while (offset < body.length)
  }

  /** Writes the header of a body that is already in place. */
  private header(header: Header | Reply, flags: number, bodyBytes: number): void {
    writeHeader(this.slab, this.to, header, flags, bodyBytes)
    this.to += headerBytes + bodyBytes
  }

  /** Adds an encoded frame. */
  bytes(frame: Uint8Array): void {
    this.room(frame.length)
    this.slab.set(frame, this.to)
    this.to += frame.length
  }

  /** How many bytes wait for the next flush. */
  get pending(): number {
    return this.full.reduce((bytes, part) => bytes + part.length, this.to - this.from)
  }

  /** Emits what has been collected. */
  readonly flush = (): void => {
    this.beforeFlush?.()
    this.scheduled = false
    if (this.to > this.from) {
      this.full.push(this.slab.subarray(this.from, this.to))
      this.from = this.to
    }
    if (this.full.length === 0) return
    const full = this.full
    this.full = []
    this.emit(full)
  }
}

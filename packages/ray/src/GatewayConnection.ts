/**
 * One supervisor's connection to the gateway.
 *
 * Plain callbacks, because some ten thousand calls a second pass here; Effect begins one level up. The connection
 * survives being cut: it dials the same gateway again, and sends again what is pending, which the gateway
 * recognises, so that nothing runs twice. When the gateway itself is gone, every pending call ends at once.
 */
import * as Frame from "./Frame.ts"
import { Acknowledgements } from "./internal/acknowledgements.ts"
import * as bodies from "./internal/bodies.ts"
import { FrameSocket, maxUnsentBytes } from "./internal/frameSocket.ts"
import { type Credit, Handshake, plain, Refused, type Welcome } from "./internal/handshake.ts"

/** @category models */
export interface HostPlace {
  readonly host: string
  readonly node: string
  readonly pid: number
}

/**
 * Why a call has no result, as the gateway tells it.
 *
 * @category models
 */
export type LostBody = typeof bodies.LostBody.Type

/** A pool of hosts as it is now. @category models */
export type PoolState = typeof bodies.PoolStateBody.Type

/**
 * What a call's owner is told. After `onResult`, `onLost`, `onUnsent` or a `discard` nothing more is called.
 *
 * @category models
 */
export interface CallOwner {
  readonly onStarted: (place: HostPlace) => void
  readonly onResult: (kind: number, text: string, place: HostPlace | undefined) => void
  /** The place is that of the host that had it, if one did. */
  readonly onLost: (lost: LostBody, place: HostPlace | undefined) => void
  /** The gateway went before it could have known of the call: another one may have it. */
  readonly onUnsent: () => void
}

/**
 * A call to make.
 *
 * @category models
 */
export interface CallOptions {
  readonly pool: Pool
  readonly execution: string
  readonly fence: number
  /** 0 to 9, 9 first: whose hosts have to go when there is no room for all. */
  readonly priority: number
  /** The whole RUN body. */
  readonly body: string
  /** Give it a host that runs nothing else meanwhile. */
  readonly alone: boolean
  readonly owner: CallOwner
}

/** @category models */
export interface Call extends CallOptions {
  readonly number: number
  /** Whether a gateway may know it, through this connection or one that was cut. */
  sent: boolean
  /** Set once the call is to be stopped. */
  graceMillis: number | undefined
}

/**
 * Hosts of one kind. Opened again by itself when the connection is.
 *
 * @category models
 */
export interface Pool {
  readonly ref: number
  readonly body: string
  /** The gateway's number for it, once it is open. */
  number: number | undefined
  /** Why the gateway refused it, if it did. */
  refusal: string | undefined
  /** Calls that wait for the number. */
  readonly waiting: Array<Call>
}

/** @category models */
export interface Options {
  readonly host: string
  readonly port: number
  /** Hex. */
  readonly secret: string
  /** The supervisor's id: the same one after a reconnect. */
  readonly id: string
  readonly leaseSeconds: number
  /** The longest payload that is sent, and the longest result that is taken, in bytes. */
  readonly maxPayloadBytes: number
  readonly maxResultBytes: number
  readonly onPoolState: (state: PoolState) => void
  /** The gateway is gone for good; every pending call is told next. Not called after `close`. */
  readonly onGone: (detail: string) => void
}

/** A cut connection is dialled again after so long, at first; twice as long each time after. */
const firstRedialMillis = 20
const maxRedialMillis = 1_000

/** The gateway listens as long as it lives: refused so often in a row, it is gone. */
const maxRefused = 3

/** Calls that need several frames leave so much credit to those that need one. */
const largeReserveBytes = 1024 * 1024

/** What a body may have beside the value that the limits are about. */
const envelopeBytes = 64 * 1024

/** Ends calls that a gateway had. Not the attempts' doing: nobody is to blame. */
const lose = (calls: ReadonlyArray<Call>, detail: string): void => {
  for (const call of calls) call.owner.onLost({ kind: "gateway", detail, collateral: true }, undefined)
}

const isRefusedConnection = (error: Error | undefined): boolean =>
  error !== undefined && "code" in error && error.code === "ECONNREFUSED"

/** @category constructors */
export class GatewayConnection {
  private readonly options: Options
  private socket: FrameSocket | undefined
  private welcome: Welcome | undefined
  private credit = { frames: 0, bytes: 0 }
  private lastCall = 0
  private lastRef = 0
  private closed = false
  private onClosed: () => void = () => {}
  private readonly calls = new Map<number, Call>()
  /** Sent, and of no interest any more before they ended. */
  private readonly discarded = new Map<number, Call>()
  private readonly pools = new Map<number, Pool>()
  private readonly places = new Map<number, HostPlace>()
  /** Calls to be sent as credit allows: those that fit into one frame pass the others. */
  private queue: Array<Call> = []
  private largeQueue: Array<Call> = []
  private assembler: Frame.Assembler
  private readonly acks = new Acknowledgements()
  private redial: NodeJS.Timeout | undefined
  private redialMillis = firstRedialMillis
  private welcomedAt = 0

  constructor(options: Options) {
    this.options = options
    this.assembler = new Frame.Assembler(options.maxResultBytes + envelopeBytes)
  }

  /** Which life of the gateway this is. */
  get instance(): string | undefined {
    return this.welcome?.instance
  }

  /** Whether it has ended for good, by `close` or because the gateway is gone. */
  get isClosed(): boolean {
    return this.closed
  }

  /** Calls that have not ended. */
  get pending(): number {
    return this.calls.size
  }

  /** Dials for the first time. `onReady` or `onFailed` is called once; a failure here is no `onGone`. */
  connect(onReady: () => void, onFailed: (error: Error) => void): void {
    this.dial(onReady, (error) => {
      this.closed = true
      onFailed(error ?? new Error("the connection was closed"))
    })
  }

  private dial(onReady: () => void, onFailed: (error: Error | undefined) => void): void {
    let ready = false
    const handshake = new Handshake(this.options.secret, (type, body) => socket.writer.frame(plain(type), body))
    const socket = new FrameSocket(this.options.host, this.options.port, {
      onConnect: () =>
        handshake.start({
          role: "supervisor",
          id: this.options.id,
          leaseSeconds: this.options.leaseSeconds,
          maxBodyBytes: this.options.maxPayloadBytes
        }),
      onFrame: (frame) => {
        if (ready) return this.frame(frame)
        const welcome = handshake.frame(frame)
        if (welcome === undefined) return
        this.welcomed(socket, welcome)
        ready = true
        onReady()
      },
      onClose: (error) => {
        if (!ready) return onFailed(error)
        this.socket = undefined
        this.credit = { frames: 0, bytes: 0 }
        if (this.closed) this.onClosed()
        else if (error instanceof Refused) this.gone(error.message)
        else this.reconnect(error?.message ?? "it closed the connection")
      },
      onPing: () => this.acks.pinged(),
      beforeFlush: () => this.beforeFlush(),
      onRoom: () => {
        if (this.largeQueue.length > 0) socket.writer.schedule()
      }
    })
  }

  private welcomed(socket: FrameSocket, welcome: Welcome): void {
    const known = this.welcome
    if (known !== undefined && known.instance !== welcome.instance) {
      throw new Refused("another gateway has taken its place")
    }
    socket.establish()
    this.socket = socket
    this.welcome = welcome
    this.welcomedAt = performance.now()
    this.credit = { ...welcome.credit }
    this.acks.again()
    // Whatever was on its way is sent again, in its old order; the gateway knows what it has already.
    this.queue = []
    this.largeQueue = []
    // Another number: the lease has passed, and with it all that the gateway knew of us.
    const isNew = known !== undefined && known.number !== welcome.number
    const lost = isNew ? this.takeSent() : []
    if (isNew) this.discarded.clear()
    // The gateway tells of every host that is up again.
    this.places.clear()
    this.assembler = new Frame.Assembler(this.options.maxResultBytes + envelopeBytes)
    for (const pool of this.pools.values()) {
      pool.number = undefined
      pool.refusal = undefined
      pool.waiting.length = 0
      this.write(Frame.Type.POOL, pool.body)
    }
    for (const call of this.calls.values()) call.pool.waiting.push(call)
    for (const call of this.discarded.values()) {
      // It may not have heard of that: what runs is stopped, and what has ended is forgotten.
      this.write(Frame.Type.CANCEL, JSON.stringify({ graceMillis: call.graceMillis ?? 0 }), call)
      this.acks.add(call.number)
    }
    socket.writer.schedule()
    lose(lost, "the gateway had given this worker up")
  }

  private reconnect(why: string): void {
    const now = performance.now()
    const givesUpAt = now + this.options.leaseSeconds * 1_000
    // A gateway that takes the connection and ends it again is not to be dialled in a tight loop.
    if (now - this.welcomedAt > maxRedialMillis) this.redialMillis = firstRedialMillis
    let refused = 0
    const retry = (error: Error | undefined) => {
      if (this.closed) return
      refused = isRefusedConnection(error) ? refused + 1 : 0
      if (error instanceof Refused) return this.gone(error.message)
      if (refused >= maxRefused) return this.gone(`nothing listens at its address any more (${why})`)
      if (performance.now() > givesUpAt) return this.gone(`out of reach for ${this.options.leaseSeconds} s (${why})`)
      again()
    }
    const again = () => {
      this.redial = setTimeout(() => this.dial(() => {}, retry), this.redialMillis)
      this.redialMillis = Math.min(this.redialMillis * 2, maxRedialMillis)
    }
    again()
  }

  private gone(detail: string): void {
    this.shut()
    const sent = this.takeSent()
    const unsent = Array.from(this.calls.values())
    this.calls.clear()
    this.options.onGone(detail)
    lose(sent, `the gateway is gone: ${detail}`)
    for (const call of unsent) call.owner.onUnsent()
  }

  /** Forgets every call that a gateway may know of. */
  private takeSent(): ReadonlyArray<Call> {
    const sent = Array.from(this.calls.values()).filter((call) => call.sent)
    for (const call of sent) this.calls.delete(call.number)
    return sent
  }

  private shut(): void {
    this.closed = true
    clearTimeout(this.redial)
    this.socket?.destroy()
  }

  /** Leaves: the gateway ends what is pending, and nothing more is called but `onClosed`. */
  close(onClosed: () => void = () => {}): void {
    if (this.closed) return onClosed()
    const { socket } = this
    this.closed = true
    this.calls.clear()
    clearTimeout(this.redial)
    if (socket === undefined) return onClosed()
    this.onClosed = onClosed
    this.write(Frame.Type.BYE, "")
    socket.end()
  }

  /** Cuts the connection, as a broken network would. For tests. */
  cut(): void {
    this.socket?.destroy(new Error("cut"))
  }

  /** Opens a pool, or joins an equal one. The body lacks its `ref`. */
  open(body: object): Pool {
    const ref = ++this.lastRef
    const pool: Pool = {
      ref,
      body: JSON.stringify({ ref, ...body }),
      number: undefined,
      refusal: undefined,
      waiting: []
    }
    this.pools.set(ref, pool)
    if (this.socket !== undefined) this.write(Frame.Type.POOL, pool.body)
    return pool
  }

  /** Makes a call. Not on a closed connection. */
  call(options: CallOptions): Call {
    const { alone, body, execution, fence, owner, pool, priority } = options
    const number = ++this.lastCall
    const call: Call = {
      pool,
      execution,
      fence,
      priority,
      body,
      alone,
      owner,
      number,
      sent: false,
      graceMillis: undefined
    }
    this.calls.set(call.number, call)
    if (call.pool.number === undefined) call.pool.waiting.push(call)
    // Not before the caller has the call in hand.
    else if (call.pool.refusal !== undefined) queueMicrotask(() => this.sendOrRefuse(call))
    else this.send(call)
    return call
  }

  /** A gateway that can make nothing of a pool has refused its calls with it. */
  private sendOrRefuse(call: Call): void {
    const { refusal } = call.pool
    if (refusal === undefined) return this.send(call)
    if (this.calls.delete(call.number)) {
      call.owner.onLost({ kind: "unschedulable", detail: refusal, collateral: false }, undefined)
    }
  }

  /** Asks for a call to be stopped. Its end arrives as any other; false when it had not been sent and is gone already. */
  cancel(call: Call, graceMillis: number): boolean {
    if (!call.sent) {
      this.discard(call)
      return false
    }
    call.graceMillis = graceMillis
    this.write(Frame.Type.CANCEL, JSON.stringify({ graceMillis }), call)
    return true
  }

  /** Forgets a call whose end is of no interest any more. */
  discard(call: Call): void {
    if (this.calls.delete(call.number) && call.sent) this.discarded.set(call.number, call)
  }

  /** The gateway may forget the end of this call. */
  acknowledge(number: number): void {
    this.acks.add(number)
    this.socket?.writer.schedule()
  }

  private write(type: number, body: string | Uint8Array, call?: Call): void {
    if (this.socket === undefined) return
    this.socket.writer.frame(
      call === undefined ? plain(type) : {
        type,
        flags: type === Frame.Type.RUN ? Frame.priorityFlags(call.priority) | (call.alone ? Frame.alone : 0) : 0,
        route: call.pool.number!,
        supervisor: this.welcome!.number,
        call: call.number,
        execution: call.execution,
        fence: call.fence
      },
      body
    )
  }

  private send(call: Call): void {
    if (call.body.length * 3 <= Frame.maxBodyBytes) this.queue.push(call)
    else this.largeQueue.push(call)
    this.socket?.writer.schedule()
  }

  /** Everything that goes out as credit allows, and the acknowledgements of this tick in one frame. */
  private beforeFlush(): void {
    if (this.socket === undefined) return
    this.queue = this.sendFrom(this.queue, 0, Number.POSITIVE_INFINITY)
    // Some credit is left to the others, and not too much is written before they come.
    this.largeQueue = this.sendFrom(this.largeQueue, largeReserveBytes, maxUnsentBytes - this.socket.unsent)
    for (const body of this.acks.take(this.welcome!.number)) this.write(Frame.Type.ACK, body)
  }

  /** Sends calls while there is more credit than the reserve, and room; answers those that are left. */
  private sendFrom(queue: Array<Call>, reserveBytes: number, room: number): Array<Call> {
    let sent = 0
    for (; sent < queue.length && this.credit.bytes > reserveBytes && room > 0; sent++) {
      const call = queue[sent]!
      if (!this.calls.has(call.number)) continue
      const bytes = Buffer.byteLength(call.body)
      const frames = Math.max(1, Math.ceil(bytes / Frame.maxBodyBytes))
      if (frames > this.credit.frames) break
      this.credit.frames -= frames
      this.credit.bytes -= bytes + frames * Frame.headerBytes
      room -= bytes
      call.sent = true
      this.write(Frame.Type.RUN, call.body, call)
      if (call.graceMillis !== undefined) {
        this.write(Frame.Type.CANCEL, JSON.stringify({ graceMillis: call.graceMillis }), call)
      }
    }
    return sent === 0 ? queue : queue.slice(sent)
  }

  private frame(frame: Frame.Frame): void {
    switch (frame.type) {
      case Frame.Type.RESULT: {
        const body = this.assembler.add(frame)
        if (body === undefined) return
        const call = this.take(frame)
        call?.owner.onResult(Frame.kindOf(frame.flags), body.toString("utf8"), this.place(frame))
        return
      }
      case Frame.Type.STARTED: {
        const place = this.places.get(frame.route)
        if (place !== undefined) this.calls.get(frame.call)?.owner.onStarted(place)
        return
      }
      case Frame.Type.LOST: {
        const lost = bodies.readLost(frame.text)
        return this.take(frame)?.owner.onLost(lost, this.place(frame))
      }
      case Frame.Type.REFUSED:
        return this.socket?.destroy(new Refused(bodies.readRefused(frame.text)))
      case Frame.Type.CREDIT: {
        const credit: Credit = {
          frames: frame.body.readUInt32BE(0),
          bytes: frame.body.readUInt32BE(4)
        }
        this.credit.frames += credit.frames
        this.credit.bytes += credit.bytes
        if (this.queue.length + this.largeQueue.length > 0) this.socket?.writer.schedule()
        return
      }
      case Frame.Type.POOL_STATE: {
        const state = bodies.readPoolState(frame.text)
        const pool = this.pools.get(state.ref)
        if (pool === undefined) return
        pool.number = state.pool
        pool.refusal = state.pool === 0 ? state.detail : undefined
        for (const call of pool.waiting.splice(0)) this.sendOrRefuse(call)
        return this.options.onPoolState(state)
      }
      case Frame.Type.HOST_UP: {
        const { number, host, node, pid } = bodies.readHostUp(frame.text)
        this.places.set(number, { host, node, pid })
        return
      }
      case Frame.Type.HOST_DOWN:
        this.places.delete(bodies.readHostDown(frame.text).number)
        return
      case Frame.Type.PING:
        return this.write(Frame.Type.PONG, "")
      case Frame.Type.PONG:
        return this.acks.answered()
      case Frame.Type.BYE:
        return this.socket?.destroy(new Error("the gateway said goodbye"))
    }
  }

  /** Where the call was whose end this is. Of a host that went while the connection was cut only the number is known. */
  private place(frame: Frame.Frame): HostPlace | undefined {
    if (frame.route === 0) return undefined
    return this.places.get(frame.route) ?? { host: `host ${frame.route}`, node: "unknown", pid: 0 }
  }

  /** The call that this frame ends. One that nobody waits for any more is acknowledged at once. */
  private take(frame: Frame.Frame): Call | undefined {
    const call = this.calls.get(frame.call)
    this.discarded.delete(frame.call)
    if (call === undefined) this.acknowledge(frame.call)
    else this.calls.delete(frame.call)
    return call
  }
}

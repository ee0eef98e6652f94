/**
 * A supervisor's connection to the gateway.
 *
 * It uses plain callbacks, because about ten thousand calls per second pass here; Effect begins one level above. If the
 * connection is cut, it dials the same gateway again and resends what is pending. The gateway recognises these calls,
 * so nothing runs twice. If the gateway itself is gone, every pending call ends at once.
 */
import * as Frame from "./Frame.ts"
import { Acknowledgements } from "./internal/acknowledgements.ts"
import * as bodies from "./internal/bodies.ts"
import { FrameSocket, maxUnsentBytes } from "./internal/frameSocket.ts"
import { type Credit, Handshake, plain, Refused, type Welcome } from "./internal/handshake.ts"

/** Where a call runs. @category models */
export interface HostPlace {
  /** The host's name. */
  readonly host: string
  /** The address of its node. */
  readonly node: string
  /** The id of its process. */
  readonly pid: number
}

/**
 * Why a call has no result, as the gateway reports it.
 *
 * @category models
 */
export type LostBody = typeof bodies.LostBody.Type

/** The state of a pool of hosts. @category models */
export type PoolState = typeof bodies.PoolStateBody.Type

/**
 * The callbacks of a call's owner. After `onResult`, `onLost`, `onUnsent` or `discard`, none is called any more.
 *
 * @category models
 */
export interface CallOwner {
  /** The handler has begun on this host. Not called if the result comes at once. */
  readonly onStarted: (place: HostPlace) => void
  /**
   * The call has a result: its kind (`Frame.Kind`), the text of its body, and the host that had it. The place may be
   * unknown.
   */
  readonly onResult: (kind: number, text: string, place: HostPlace | undefined) => void
  /** The call will have no result. `place` is the host that had it, if any. */
  readonly onLost: (lost: LostBody, place: HostPlace | undefined) => void
  /** The gateway is gone and cannot have received the call: it may be sent to another gateway. */
  readonly onUnsent: () => void
}

/**
 * A call to make.
 *
 * @category models
 */
export interface CallOptions {
  /** The pool in which the call runs. */
  readonly pool: Pool
  /** The execution's UUID. */
  readonly execution: string
  /** The fence of the attempt. */
  readonly fence: number
  /**
   * The priority, from 0 to 9; 9 goes first. If there is no room for all pools, it decides which pool's hosts must
   * leave.
   */
  readonly priority: number
  /** The whole body of the RUN frame. */
  readonly body: string
  /** Whether the call must have a host to itself. */
  readonly alone: boolean
  /** Receives the call's start and end. */
  readonly owner: CallOwner
}

/** A call in progress. @category models */
export interface Call extends CallOptions {
  /** The number of the call within this connection. */
  readonly number: number
  /** Whether the gateway may have received it, through this connection or an earlier one that was cut. */
  sent: boolean
  /** How long the handler may take to stop, in milliseconds. Set once the call is cancelled. */
  graceMillis: number | undefined
}

/**
 * A pool of hosts. It is opened again automatically after a reconnect.
 *
 * @category models
 */
export interface Pool {
  /** The number by which this supervisor names it. */
  readonly ref: number
  /** The body of its POOL frame. */
  readonly body: string
  /** The number that the gateway gave it, once it is open. */
  number: number | undefined
  /** Why the gateway refused it, if it did. */
  refusal: string | undefined
  /** The calls that wait for the number. */
  readonly waiting: Array<Call>
}

/** How to reach the gateway, and what to tell it. @category models */
export interface Options {
  /** The gateway's host name or address. */
  readonly host: string
  /** The gateway's port. */
  readonly port: number
  /** The gateway's secret, 32 bytes in hex. */
  readonly secret: string
  /** The supervisor's id. It stays the same after a reconnect. */
  readonly id: string
  /**
   * How long the gateway keeps this supervisor's calls without a connection, and how long this side redials, in
   * seconds.
   */
  readonly leaseSeconds: number
  /** The longest payload that is sent, in bytes. */
  readonly maxPayloadBytes: number
  /** The longest result that is accepted, in bytes. */
  readonly maxResultBytes: number
  /** Called on each change of a pool. */
  readonly onPoolState: (state: PoolState) => void
  /**
   * Called when the gateway is gone for good, before the owners of pending calls are told. Not called after `close`.
   */
  readonly onGone: (detail: string) => void
}

/** The delay before a cut connection is dialled again. It doubles each time, up to the longest delay. */
const firstRedialMillis = 20
const maxRedialMillis = 1_000

/** How many refused connections in a row mean that the gateway is gone: it listens as long as it runs. */
const maxRefused = 3

/** How much credit calls of several frames leave for calls of one frame, in bytes. */
const largeReserveBytes = 1024 * 1024

/** How many bytes a body may have in addition to the value that the limits apply to. */
const envelopeBytes = 64 * 1024

/** Ends calls that a gateway had. The attempts did not cause this, so they are collateral. */
const lose = (calls: ReadonlyArray<Call>, detail: string): void => {
  for (const call of calls) call.owner.onLost({ kind: "gateway", detail, collateral: true }, undefined)
}

const isRefusedConnection = (error: Error | undefined): boolean =>
  error !== undefined && "code" in error && error.code === "ECONNREFUSED"

/** A supervisor's connection to the gateway. @category constructors */
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
  /** Calls that were sent and then discarded, but have not ended. */
  private readonly discarded = new Map<number, Call>()
  private readonly pools = new Map<number, Pool>()
  private readonly places = new Map<number, HostPlace>()
  /** Calls that wait for credit: those that fit into one frame, which may overtake the others, and the larger ones. */
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

  /** The gateway's instance: each start of a gateway has another one. */
  get instance(): string | undefined {
    return this.welcome?.instance
  }

  /** Whether the connection has ended for good, through `close` or because the gateway is gone. */
  get isClosed(): boolean {
    return this.closed
  }

  /** How many calls have not ended. */
  get pending(): number {
    return this.calls.size
  }

  /** Dials for the first time. Calls `onReady` or `onFailed` once; a failure here does not call `onGone`. */
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
      throw new Refused("another gateway listens at its address")
    }
    socket.establish()
    this.socket = socket
    this.welcome = welcome
    this.welcomedAt = performance.now()
    this.credit = { ...welcome.credit }
    this.acks.again()
    // Calls that were being sent are sent again in the same order. The gateway recognises those that it already has.
    this.queue = []
    this.largeQueue = []
    // With another number, the lease has lapsed, and the gateway has forgotten this supervisor's calls.
    const isNew = known !== undefined && known.number !== welcome.number
    const lost = isNew ? this.takeSent() : []
    if (isNew) this.discarded.clear()
    // The gateway reports every running host again.
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
      // The gateway may not know that the call is discarded: it stops the call if it runs, and forgets it if it has
      // ended.
      this.write(Frame.Type.CANCEL, JSON.stringify({ graceMillis: call.graceMillis ?? 0 }), call)
      this.acks.add(call.number)
    }
    socket.writer.schedule()
    lose(lost, "the gateway had given this worker up")
  }

  private reconnect(why: string): void {
    const now = performance.now()
    const givesUpAt = now + this.options.leaseSeconds * 1_000
    // Prevents dialling in a tight loop if the gateway accepts connections and closes them at once.
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

  /** Forgets all calls that the gateway may have received, and returns them. */
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

  /** Leaves the gateway, which ends the pending calls. After this only `onClosed` is called. */
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

  /** Opens a pool, or joins an equal one. `body` is the POOL body without `ref`. */
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

  /** Makes a call. Must not be called on a closed connection. */
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
    // Deferred, so that the caller has received the call first.
    else if (call.pool.refusal !== undefined) queueMicrotask(() => this.sendOrRefuse(call))
    else this.send(call)
    return call
  }

  /** Sends the call, or ends it if the gateway has refused its pool. */
  private sendOrRefuse(call: Call): void {
    const { refusal } = call.pool
    if (refusal === undefined) return this.send(call)
    if (this.calls.delete(call.number)) {
      call.owner.onLost({ kind: "unschedulable", detail: refusal, collateral: false }, undefined)
    }
  }

  /**
   * Asks for a call to be stopped. Its end arrives like any other. Returns false if the call had not been sent and is
   * already discarded.
   */
  cancel(call: Call, graceMillis: number): boolean {
    if (!call.sent) {
      this.discard(call)
      return false
    }
    call.graceMillis = graceMillis
    this.write(Frame.Type.CANCEL, JSON.stringify({ graceMillis }), call)
    return true
  }

  /** Forgets a call whose end is not needed any more. */
  discard(call: Call): void {
    if (this.calls.delete(call.number) && call.sent) this.discarded.set(call.number, call)
  }

  /** Lets the gateway forget the end of this call. */
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

  /** Writes the calls that credit allows, and this turn's acknowledgements in one frame. */
  private beforeFlush(): void {
    if (this.socket === undefined) return
    this.queue = this.sendFrom(this.queue, 0, Number.POSITIVE_INFINITY)
    // Leaves some credit for the small calls, and does not write too much before them.
    this.largeQueue = this.sendFrom(this.largeQueue, largeReserveBytes, maxUnsentBytes - this.socket.unsent)
    for (const body of this.acks.take(this.welcome!.number)) this.write(Frame.Type.ACK, body)
  }

  /** Sends calls while there is more credit than the reserve, and room. Returns the remaining calls. */
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
        return this.socket?.destroy(new Error("the gateway closed the connection"))
    }
  }

  /**
   * Returns the host that had the call that this frame ends. For a host that stopped while the connection was cut, only
   * the number is known.
   */
  private place(frame: Frame.Frame): HostPlace | undefined {
    if (frame.route === 0) return undefined
    return this.places.get(frame.route) ?? { host: `host ${frame.route}`, node: "unknown", pid: 0 }
  }

  /** Returns the call that this frame ends. If the call is no longer waited for, its end is acknowledged at once. */
  private take(frame: Frame.Frame): Call | undefined {
    const call = this.calls.get(frame.call)
    this.discarded.delete(frame.call)
    if (call === undefined) this.acknowledge(frame.call)
    else this.calls.delete(frame.call)
    return call
  }
}

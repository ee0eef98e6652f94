/** What a supervisor's connection makes of a gateway that is slow, forgetful, or talks rubbish. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createHmac, randomUUID } from "node:crypto"
import * as net from "node:net"
import * as Frame from "../src/Frame.ts"
import {
  type Call,
  type CallOwner,
  GatewayConnection,
  type HostPlace,
  type LostBody,
  type PoolState
} from "../src/GatewayConnection.ts"
import { plain } from "../src/internal/handshake.ts"
import { eventually } from "./support.ts"

const secret = "5ec4e7"

interface Received {
  readonly type: number
  readonly call: number
  readonly body: Buffer
}

/** The other end, in the test's hands: it shakes hands and then says what it is told to. */
class FakeGateway {
  readonly received: Array<Received> = []
  readonly sockets: Array<net.Socket> = []
  instance = "first"
  number = 1
  credit = { frames: 1_000, bytes: 64 * 1024 * 1024 }
  /** Whether it answers a HELLO. */
  awake = true
  /** What it answers a HELLO instead. */
  refusal: { readonly code: string; readonly reason: string } | undefined
  private readonly server = net.createServer((socket) => this.serve(socket))

  listen(): Promise<number> {
    return new Promise((resolve) =>
      this.server.listen(0, "127.0.0.1", () => resolve((this.server.address() as net.AddressInfo).port))
    )
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy()
    this.server.close()
  }

  private serve(socket: net.Socket): void {
    this.sockets.push(socket)
    socket.on("error", () => {})
    const decoder = new Frame.Decoder((frame) => {
      this.received.push({ type: frame.type, call: frame.call, body: Buffer.from(frame.body) })
      if (frame.type === Frame.Type.HELLO && this.refusal !== undefined) {
        this.say(Frame.Type.REFUSED, this.refusal)
        return
      }
      if (frame.type === Frame.Type.HELLO && this.awake) this.challenge(JSON.parse(frame.text).nonce)
      if (frame.type === Frame.Type.PROOF) {
        this.say(Frame.Type.WELCOME, { number: this.number, instance: this.instance, credit: this.credit })
      }
      if (frame.type === Frame.Type.POOL) {
        const { ref } = JSON.parse(frame.text)
        this.say(Frame.Type.POOL_STATE, { ref, pool: ref, state: "ready", detail: "", slots: 1 })
      }
    })
    socket.on("data", (chunk: Buffer) => decoder.push(chunk))
  }

  private challenge(nonce: string): void {
    const proof = createHmac("sha256", Buffer.from(secret, "hex")).update(`gateway|${nonce}|00`).digest("hex")
    this.say(Frame.Type.CHALLENGE, { nonce: "00", proof, protocol: Frame.protocol, instance: this.instance })
  }

  /** Says it to the newest connection, about a call if one is named. */
  say(type: number, body: unknown, call = 0, route = 0): void {
    const text = typeof body === "string" ? body : JSON.stringify(body)
    this.sockets.at(-1)!.write(Frame.encode({ ...plain(type), supervisor: this.number, call, route }, text))
  }

  runs(): ReadonlyArray<number> {
    return this.received.filter(({ type }) => type === Frame.Type.RUN).map(({ call }) => call)
  }
}

/** A call's owner that notes what it is told. */
class Owner implements CallOwner {
  readonly results: Array<string> = []
  readonly losses: Array<LostBody> = []
  /** Where it ended, for each end. */
  readonly hosts: Array<string | undefined> = []
  unsent = 0
  readonly onStarted = () => {}
  readonly onResult = (_kind: number, text: string, place: HostPlace | undefined) => {
    this.results.push(text)
    this.hosts.push(place?.host)
  }
  readonly onLost = (lost: LostBody, place: HostPlace | undefined) => {
    this.losses.push(lost)
    this.hosts.push(place?.host)
  }
  readonly onUnsent = () => void this.unsent++
}

const connected = Effect.fnUntraced(function*(
  prepare: (gateway: FakeGateway) => void = () => {}
): Effect.fn.Return<
  {
    readonly gateway: FakeGateway
    readonly connection: GatewayConnection
    readonly gone: ReadonlyArray<string>
    readonly states: ReadonlyArray<PoolState>
    readonly call: (body?: string) => Owner
    readonly calls: ReadonlyArray<Call>
  },
  never,
  Scope.Scope
> {
  const gateway = yield* Effect.acquireRelease(
    Effect.sync(() => new FakeGateway()),
    (gateway) => Effect.sync(() => gateway.close())
  )
  prepare(gateway)
  const port = yield* Effect.promise(() => gateway.listen())
  const gone: Array<string> = []
  const states: Array<PoolState> = []
  const connection = new GatewayConnection({
    host: "127.0.0.1",
    port,
    secret,
    id: "worker",
    leaseSeconds: 30,
    maxPayloadBytes: 2 * 1024 * 1024,
    maxResultBytes: 2 * 1024 * 1024,
    onPoolState: (state) => states.push(state),
    onGone: (detail) => gone.push(detail)
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => connection.close()))
  const ready = Effect.callback<void>((resume) => {
    connection.connect(() => resume(Effect.void), (error) => resume(Effect.die(error)))
  })
  yield* ready
  const pool = connection.open({})
  const calls: Array<Call> = []
  const call = (body = "{}") => {
    const owner = new Owner()
    calls.push(connection.call({ pool, execution: randomUUID(), fence: 1, priority: 5, body, alone: false, owner }))
    return owner
  }
  return { gateway, connection, gone, states, call, calls }
})

const until = (holds: () => boolean) => eventually(Effect.sync(holds), (value) => value)

describe("GatewayConnection", () => {
  it.live("ends what it had sent when the gateway has given it up, and keeps what it had not", () =>
    Effect.gen(function*() {
      const { call, connection, gateway } = yield* connected((gateway) => gateway.credit = { frames: 1, bytes: 1_000 })
      const [sent, unsent] = [call(), call()]
      yield* until(() => gateway.runs().length === 1)
      // Another number under the same instance: the lease has passed.
      gateway.number = 2
      connection.cut()
      yield* until(() => sent.losses.length === 1)
      assert.deepStrictEqual(sent.losses[0], {
        kind: "gateway",
        detail: "the gateway had given this worker up",
        collateral: true
      })
      yield* until(() => gateway.runs().length === 2)
      assert.notStrictEqual(gateway.runs()[1], gateway.runs()[0])
      gateway.say(Frame.Type.RESULT, "42", gateway.runs()[1])
      yield* until(() => unsent.results.length === 1)
      assert.deepStrictEqual([unsent.losses, sent.results], [[], []])
    }))

  it.live("sends again what is pending when it is known to the gateway still", () =>
    Effect.gen(function*() {
      const { call, connection, gateway } = yield* connected()
      const owner = call()
      yield* until(() => gateway.runs().length === 1)
      connection.cut()
      yield* until(() => gateway.runs().length === 2)
      assert.strictEqual(gateway.runs()[0], gateway.runs()[1])
      assert.isEmpty(owner.losses)
    }))

  it.live("stops what nobody waited for any more while the connection was cut", () =>
    Effect.gen(function*() {
      const { call, calls, connection, gateway } = yield* connected()
      const owner = call()
      yield* until(() => gateway.runs().length === 1)
      gateway.awake = false
      connection.cut()
      yield* until(() => gateway.sockets.length === 2)
      connection.cancel(calls[0]!, 10)
      connection.discard(calls[0]!)
      gateway.awake = true
      gateway.sockets.at(-1)!.destroy()
      const [run] = gateway.runs()
      const isOfRun = ({ body, call }: Received) => call === run || (body.length === 8 && body.readUIntBE(2, 6) === run)
      yield* until(() => gateway.received.filter(isOfRun).length === 3)
      // Not to be run again, if it never was; and to be forgotten, if it has ended.
      assert.deepStrictEqual(
        gateway.received.filter(isOfRun).map(({ type }) => type),
        [Frame.Type.RUN, Frame.Type.CANCEL, Frame.Type.ACK]
      )
      assert.deepStrictEqual([owner.results, owner.losses], [[], []])
    }))

  it.live("takes a refusal for the gateway's last word", () =>
    Effect.gen(function*() {
      const { call, gateway, gone } = yield* connected()
      const owner = call()
      yield* until(() => gateway.runs().length === 1)
      gateway.say(Frame.Type.REFUSED, { reason: "a body has more than 2 bytes" })
      yield* until(() => gone.length === 1)
      assert.include(gone[0], "a body has more than 2 bytes")
      assert.strictEqual(owner.losses[0]?.kind, "gateway")
      assert.lengthOf(gateway.sockets, 1)
    }))

  it.live("tries again where a gateway is on its way out, whatever its words, and not where it is refused", () =>
    Effect.gen(function*() {
      const { connection, gateway, gone } = yield* connected()
      gateway.refusal = { code: "stopping", reason: "soon there will be another" }
      connection.cut()
      yield* until(() => gateway.sockets.length >= 4)
      assert.deepStrictEqual(gone, [])
      gateway.refusal = { code: "refused", reason: "the gateway is stopping" }
      yield* until(() => gone.length === 1)
      assert.include(gone[0], "the gateway is stopping")
    }))

  it.live("ends a call with whatever its host said of the loss", () =>
    Effect.gen(function*() {
      const { call, gateway } = yield* connected()
      const [clear, unclear] = [call(), call()]
      yield* until(() => gateway.runs().length === 2)
      const [first, second] = gateway.runs()
      gateway.say(Frame.Type.LOST, { kind: "oom", detail: "too much", collateral: false }, first)
      gateway.say(Frame.Type.LOST, "{rubbish", second)
      yield* until(() => unclear.losses.length === 1)
      assert.deepStrictEqual(clear.losses, [{ kind: "oom", detail: "too much", collateral: false }])
      assert.deepStrictEqual(unclear.losses, [{ kind: "exit", detail: "its host wrote: {rubbish", collateral: false }])
    }))

  it.live("dials again after a body that is none, and loses nothing", () =>
    Effect.gen(function*() {
      const { call, gateway, gone } = yield* connected()
      const pending = call()
      const rubbish = [
        [Frame.Type.POOL_STATE, "{\"ref\":1}"],
        [Frame.Type.HOST_UP, "{"],
        [Frame.Type.HOST_DOWN, "null"]
      ] as const
      for (const [index, [type, body]] of rubbish.entries()) {
        yield* until(() => gateway.runs().length === index + 1)
        gateway.say(type, body)
      }
      yield* until(() => gateway.runs().length === rubbish.length + 1)
      gateway.say(Frame.Type.RESULT, "7", gateway.runs().at(-1))
      yield* until(() => pending.results.length === 1)
      assert.deepStrictEqual([pending.results, pending.losses, gone], [["7"], [], []])
    }))

  it.live("says nothing to a terminal, whatever a host or Ray said", () =>
    Effect.gen(function*() {
      const { call, gateway, gone, states } = yield* connected()
      const [lost, rubbish] = [call(), call()]
      yield* until(() => gateway.runs().length === 2)
      const [first, second] = gateway.runs()
      const hostile = "\u001b[31mred\u001b[0m\r\u0000\u202e\nline"
      gateway.say(Frame.Type.LOST, { kind: "exit", detail: hostile, collateral: false }, first)
      gateway.say(Frame.Type.LOST, `{${hostile}`, second)
      yield* until(() => rubbish.losses.length === 1)
      gateway.say(Frame.Type.POOL_STATE, { ref: 1, pool: 1, state: "failed", detail: hostile, slots: 0 })
      gateway.say(Frame.Type.REFUSED, { reason: hostile })
      yield* until(() => gone.length === 1)
      assert.strictEqual(lost.losses[0]?.detail, "red\n\nline")
      assert.strictEqual(rubbish.losses[0]?.detail, "its host wrote: {red\n\nline")
      assert.strictEqual(states.at(-1)?.detail, "red\n\nline")
      assert.include(gone[0], "red\n\nline")
    }))

  it.live("says which host had a call that has ended, also of one that went while the connection was cut", () =>
    Effect.gen(function*() {
      const { call, connection, gateway } = yield* connected()
      const [known, forgotten, nowhere] = [call(), call(), call()]
      yield* until(() => gateway.runs().length === 3)
      const [first, second, third] = gateway.runs()
      gateway.say(Frame.Type.HOST_UP, { number: 7, pool: 1, host: "host-7", node: "node", pid: 1 })
      gateway.say(Frame.Type.LOST, { kind: "exit", detail: "", collateral: false }, first, 7)
      yield* until(() => known.losses.length === 1)
      connection.cut()
      yield* until(() => gateway.runs().length === 5)
      gateway.say(Frame.Type.RESULT, "", second, 7)
      gateway.say(Frame.Type.LOST, { kind: "unplaced", detail: "", collateral: true }, third)
      yield* until(() => nowhere.losses.length === 1)
      assert.deepStrictEqual([known, forgotten, nowhere].flatMap(({ hosts }) => hosts), ["host-7", "host 7", undefined])
    }))

  it.live("sends calls that fit into one frame before those that do not", () =>
    Effect.gen(function*() {
      const { call, gateway } = yield* connected((gateway) => gateway.credit = { frames: 100, bytes: 3 * 1024 * 1024 })
      const large = JSON.stringify("x".repeat(1024 * 1024))
      for (let index = 0; index < 5; index++) call(large)
      call()
      yield* until(() => gateway.runs().includes(6))
      // Some credit is left, and the large ones that wait are not sent for it.
      assert.isAtMost(new Set(gateway.runs()).size, 4)
    }))
})

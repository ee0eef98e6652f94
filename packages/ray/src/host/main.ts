/**
 * A host: the process that runs handlers on a node of the cluster.
 *
 * This, the main thread, owns the control pipe, the socket, the heartbeat and cancellation, so all of these go on
 * whatever the handlers do; the handlers run in threads of their own, one for each whole CPU. It ends when its
 * control pipe does, when the gateway says goodbye, and when the connection breaks.
 */
import * as Frame from "../Frame.ts"
import { FrameSocket } from "../internal/frameSocket.ts"
import { Handshake, plain, type Welcome } from "../internal/handshake.ts"
import { type Events, inMain, inThread } from "./lane.ts"
import { Lanes } from "./lanes.ts"
import { log } from "./log.ts"
import * as orders from "./orders.ts"

const bundle = new URL("./thread.mjs", import.meta.url)

/** How long the worker's layer may take to come down in an orderly end. */
const closeMillis = 2_000

const fail = (message: string, detail: string): never => {
  log("ERROR", message, { detail })
  process.stderr.write(`${message}: ${detail}\n`)
  process.exit(1)
}

const serve = async (given: orders.Orders): Promise<void> => {
  Object.assign(process.env, given.env)
  const { placement, limits } = given
  const inThreads = placement.thread !== "main"
  const count = inThreads ? Math.max(1, Math.floor(placement.cpus)) : 1
  /** RESULT frames that wait for credit, and what is left of it. */
  const waiting: Array<Buffer> = []
  const credit = { frames: 0, bytes: 0 }
  let number = 0
  let serving = false
  let closing = false

  const events: Events = {
    onFrames: (frames) => fromLane.push(frames),
    onEnd: (lane, end) => {
      // A lane that never was ready is the business of whoever waits for it.
      if (closing || !serving) return
      log(end.kind === "terminated" ? "INFO" : "WARN", "a handler thread ended", { ...end })
      lanes.replace(lane, end).ready.catch((error: Error) =>
        fail("no handler thread could take the place of one that ended", error.message)
      )
    }
  }
  const lanes = new Lanes(
    count,
    () => inThreads ? inThread(bundle, given, count, events) : inMain(bundle, given, events),
    (reply, body) => {
      const frame = Frame.encode({ ...reply, route: number }, body)
      if (reply.type === Frame.Type.RESULT) sendResult(frame)
      else socket.writer.bytes(frame)
    }
  )
  await lanes.ready().catch((error: Error) => fail("the worker's handlers could not be built", error.message))
  serving = true

  const sendResult = (frame: Buffer): void => {
    if (waiting.length > 0 || credit.frames <= 0 || credit.bytes <= 0) {
      waiting.push(Buffer.from(frame))
      return
    }
    credit.frames--
    credit.bytes -= frame.length
    socket.writer.bytes(frame)
  }

  const fromLane = new Frame.Decoder((frame) => {
    if (!lanes.ended(frame)) return
    frame.buffer.writeUInt32BE(number, frame.at + 8)
    sendResult(frame.bytes)
  })

  const close = async (): Promise<void> => {
    closing = true
    setTimeout(() => process.exit(0), closeMillis)
    await lanes.close()
    process.exit(0)
  }

  const onFrame = (frame: Frame.Frame): void => {
    switch (frame.type) {
      case Frame.Type.RUN:
        return lanes.run(frame)
      case Frame.Type.CANCEL:
        return lanes.cancel(frame)
      case Frame.Type.CREDIT:
        credit.frames += frame.body.readUInt32BE(0)
        credit.bytes += frame.body.readUInt32BE(4)
        for (const held of waiting.splice(0)) sendResult(held)
        return
      case Frame.Type.PING:
        return socket.writer.frame(plain(Frame.Type.PONG), "")
      case Frame.Type.BYE:
        return void close()
    }
  }

  let welcome: Welcome | undefined
  const handshake = new Handshake(given.token, (type, body) => socket.writer.frame(plain(type), body))
  const socket = new FrameSocket(given.gateway.host, given.gateway.port, {
    onConnect: () =>
      handshake.start({
        role: "host",
        id: given.hostId,
        leaseSeconds: 0,
        maxBodyBytes: limits.maxPayloadBytes,
        pid: process.pid,
        node: given.node,
        slots: count * placement.concurrency
      }),
    onFrame: (frame) => {
      if (welcome !== undefined) return onFrame(frame)
      welcome = handshake.frame(frame)
      if (welcome === undefined) return
      number = welcome.number
      Object.assign(credit, welcome.credit)
      log("INFO", "the host is up", { host: given.hostId, number, pid: process.pid, threads: count })
    },
    onClose: (error) => {
      if (!closing) fail("the connection to the gateway ended", error?.message ?? "the gateway closed it")
    }
  })
}

orders.read(
  process.stdin,
  (given) => void serve(given).catch((error: Error) => fail("the host could not start", error.message)),
  () => process.exit(0)
)

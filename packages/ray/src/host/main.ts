/**
 * A host: the process that runs handlers on a node of the cluster.
 *
 * This is the main thread. It manages the control pipe, the socket, the heartbeat and cancellation, so all of these
 * continue while handlers compute. Handlers run in handler threads, one for each whole CPU. The host ends when its
 * control pipe ends, when the gateway sends BYE, or when the connection breaks.
 */
import * as Frame from "../Frame.ts"
import { FrameSocket } from "../internal/frameSocket.ts"
import { Handshake, plain, type Welcome } from "../internal/handshake.ts"
import { type Events, inMain, inThread, type HandlerThread } from "./handlerThread.ts"
import { HandlerThreads } from "./handlerThreads.ts"
import { log } from "./log.ts"
import * as orders from "./orders.ts"
import { makeBlocking } from "./output.ts"
import { Results } from "./results.ts"
import { toldOf, tellCrashes, Told } from "./told.ts"

const bundle = new URL("./thread.mjs", import.meta.url)

/** How long the worker's layer may take to be released in an orderly end, in milliseconds. */
const closeMillis = 2_000

/** Logs an error and ends the host. `error` is any thrown value, which may come from the worker's module. */
const fail = (message: string, error: unknown): never => {
  const { message: detail, stack } = toldOf(error)
  log("ERROR", message, { detail, stack })
  // The actor keeps the end of this output, so the message comes after the stack.
  process.stderr.write(`${stack}\n${message}: ${detail}\n`)
  process.exit(1)
}

const serve = async (given: orders.Orders): Promise<void> => {
  Object.assign(process.env, given.env)
  const { placement, limits } = given
  const inThreads = placement.thread !== "main"
  const count = inThreads ? Math.max(1, Math.floor(placement.cpus)) : 1
  const results = new Results(() => socket)
  let number = 0
  let serving = false
  let closing = false

  const events: Events = {
    onFrames: (frames) => fromLane.push(frames),
    onEnd: (thread, end, stack) => {
      // If a thread was never ready, `ready` rejects, which is handled below.
      if (closing || !serving) return
      log(end.kind === "terminated" ? "INFO" : "WARN", "a handler thread ended", { ...end, stack })
      threads.gone(thread, end)
    }
  }
  const makeThread = (): HandlerThread => {
    const thread = inThreads ? inThread(bundle, given, count, events) : inMain(bundle, given, events)
    if (serving) {
      thread.ready.catch((error: unknown) => fail("a handler thread that ended could not be replaced", error))
    }
    return thread
  }
  const threads = new HandlerThreads(
    count,
    makeThread,
    (reply, body) => {
      const bytes = Frame.encode({ ...reply, route: number }, body)
      if (reply.type === Frame.Type.RESULT) results.push(new Frame.Frame(bytes, 0, bytes.length))
      else socket.writer.bytes(bytes)
    }
  )
  await threads.ready().catch((error: unknown) => fail("the worker's handlers could not be built", error))
  serving = true

  const fromLane = new Frame.Decoder((frame) => {
    if (!threads.ended(frame)) return
    frame.buffer.writeUInt32BE(number, frame.at + 8)
    results.push(frame)
  })

  const close = async (): Promise<void> => {
    closing = true
    setTimeout(() => process.exit(0), closeMillis)
    await threads.close()
    process.exit(0)
  }

  const onFrame = (frame: Frame.Frame): void => {
    switch (frame.type) {
      case Frame.Type.RUN:
        return threads.run(frame)
      case Frame.Type.CANCEL:
        return threads.cancel(frame)
      case Frame.Type.CREDIT:
        return results.grant({ frames: frame.body.readUInt32BE(0), bytes: frame.body.readUInt32BE(4) })
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
      socket.establish()
      number = welcome.number
      results.grant(welcome.credit)
      log("INFO", "the host is up", { host: given.hostId, number, pid: process.pid, threads: count })
    },
    onRoom: () => results.send(),
    onClose: (error) => {
      if (!closing) fail("the connection to the gateway ended", error ?? new Told("the gateway closed it"))
    }
  })
}

// Output that cannot be written, for instance because the disk is full, does not end the host.
for (const output of [process.stdout, process.stderr]) {
  output.on("error", () => {})
  makeBlocking(output)
}

tellCrashes((error) => fail("the host crashed", error))

orders.read(
  process.stdin,
  (given) => void serve(given).catch((error: unknown) => fail("the host could not start", error)),
  () => process.exit(0)
)

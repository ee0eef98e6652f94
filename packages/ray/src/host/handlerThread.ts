/** Where attempts run in a host: a thread of its own, or the main thread. */
import { MessageChannel, Worker } from "node:worker_threads"
import * as Frame from "../Frame.ts"
import type { Executor } from "./executor.ts"
import type { Orders } from "./orders.ts"
import { toldOf, Told } from "./told.ts"
import { type Bundle, exactly, type ThreadData, type ThreadMessage, type ThreadOrder } from "./thread.ts"

/** How a thread came to its end. */
export interface ThreadEnd {
  readonly kind: "oom" | "exit" | "terminated"
  readonly detail: string
}

export interface Events {
  readonly onFrames: (frames: Buffer) => void
  /** `stack`: of what it crashed with. */
  readonly onEnd: (thread: HandlerThread, end: ThreadEnd, stack: string | undefined) => void
}

export interface HandlerThread {
  /** Gathers frames for the thread and sends them once a tick. */
  readonly writer: Frame.Writer
  /** Element 0 counts the attempts that the thread has begun. */
  readonly begun: Int32Array
  /** RUNs given to it so far. */
  given: number
  /** Attempts in it. */
  running: number
  /** Settles when its handlers are built. Frames that are sent to it before wait in it. */
  readonly ready: Promise<void>
  /** Whether it can be stopped, and another take its place. The main thread cannot. */
  readonly replaceable: boolean
  /** Calls back when its event loop turns: what runs in it is then not stuck. */
  readonly probe: (onHere: () => void) => void
  /** Stops it for that reason, handlers that do not listen included. The main thread goes on. */
  readonly terminate: (detail: string) => void
  readonly close: () => Promise<unknown>
}

const heapMegabytes = (bytes: number, threads: number): number =>
  Math.max(16, Math.floor(bytes / threads / 1024 / 1024))

// Whatever was thrown in the thread.
const isOutOfMemory = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ERR_WORKER_OUT_OF_MEMORY"

const counter = () => new Int32Array(new SharedArrayBuffer(4))

/** Handlers in a thread of their own. */
export const inThread = (bundle: URL, orders: Orders, threads: number, events: Events): HandlerThread => {
  const begun = counter()
  const { port1: port, port2 } = new MessageChannel()
  const data: ThreadData = { effectRay: true, port: port2, limits: orders.limits, begun }
  const order = (order: ThreadOrder) => port.postMessage(order)
  const { memory } = orders.placement
  const heap = memory === null ? undefined : heapMegabytes(memory, threads)
  const worker = new Worker(bundle, {
    workerData: data,
    transferList: [port2],
    // Instead of the host's own, which set limits of the process and are no thread's.
    execArgv: ["--enable-source-maps"],
    stdout: true,
    stderr: true,
    ...(heap === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: heap } })
  })
  // What it says before it writes through. Node's own way to ours ends at the first write that fails, and then it piles up.
  worker.stdout.on("data", (said: Buffer) => process.stdout.write(said))
  worker.stderr.on("data", (said: Buffer) => process.stderr.write(said))
  const ready = Promise.withResolvers<void>()
  let end: ThreadEnd | undefined
  let stack: string | undefined
  let whenHere: Array<() => void> = []
  const thread: HandlerThread = {
    begun,
    given: 0,
    running: 0,
    ready: ready.promise,
    replaceable: true,
    writer: new Frame.Writer((frames) => {
      const all = exactly(frames)
      port.postMessage(all, [all.buffer])
    }),
    probe: (onHere) => {
      whenHere.push(onHere)
      order("probe")
    },
    terminate: (detail) => {
      end ??= { kind: "terminated", detail }
      void worker.terminate()
    },
    close: () => {
      const ended = new Promise((done) => worker.once("exit", done))
      order("close")
      return ended
    }
  }
  port.on("message", (message: Uint8Array<ArrayBuffer> | ThreadMessage) => {
    if (message instanceof Uint8Array) return events.onFrames(Buffer.from(message.buffer))
    switch (message._tag) {
      case "Ready":
        return ready.resolve()
      case "Failed":
        return ready.reject(new Told(message.message, message.stack))
      case "Here": {
        const here = whenHere
        whenHere = []
        for (const onHere of here) onHere()
      }
    }
  })
  worker.on("error", (error: unknown) => {
    if (isOutOfMemory(error)) {
      end ??= {
        kind: "oom",
        detail: `a handler thread ran out of its heap${heap === undefined ? "" : ` of ${heap} MiB`}`
      }
      return
    }
    const told = toldOf(error)
    stack = told.stack
    end ??= { kind: "exit", detail: `a handler thread crashed: ${told.message}` }
  })
  worker.on("exit", (code) => {
    port.close()
    end ??= { kind: "exit", detail: `a handler thread exited with ${code}` }
    // This tells why a thread never was ready; for one that was, the promise is settled already.
    ready.reject(new Told(end.detail, stack))
    events.onEnd(thread, end, stack)
  })
  return thread
}

/** The main thread as the handlers', for handlers that only ever wait. Nothing can stop one that does not. */
export const inMain = (bundle: URL, orders: Orders, events: Events): HandlerThread => {
  const begun = counter()
  let executor: Executor | undefined
  const load = async (): Promise<void> => {
    // Before the bundle is loaded: Node reads a source map when it loads the file that has it.
    process.setSourceMapsEnabled(true)
    const loaded: { readonly default: Bundle } = await import(bundle.href)
    executor = await loaded.default.make({
      limits: orders.limits,
      begun,
      emit: (frames) => events.onFrames(Buffer.concat(frames))
    })
  }
  return {
    begun,
    given: 0,
    running: 0,
    ready: load(),
    writer: new Frame.Writer((frames) => executor?.push(Buffer.concat(frames))),
    replaceable: false,
    probe: queueMicrotask,
    terminate: () => {},
    close: () => executor?.close() ?? Promise.resolve()
  }
}

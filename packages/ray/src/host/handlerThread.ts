/** Where attempts run in a host: in a handler thread, or in the main thread. */
import { MessageChannel, Worker } from "node:worker_threads"
import * as Frame from "../Frame.ts"
import type { Executor } from "./executor.ts"
import type { Orders } from "./orders.ts"
import { toldOf, Told } from "./told.ts"
import { type Bundle, exactly, type ThreadData, type ThreadMessage, type ThreadOrder } from "./thread.ts"

/** How a thread ended. */
export interface ThreadEnd {
  /** `oom`: out of memory. `exit`: it crashed or exited. `terminated`: the host ended it. */
  readonly kind: "oom" | "exit" | "terminated"
  /** Describes the end for people. */
  readonly detail: string
}

export interface Events {
  /** Receives whole frames. */
  readonly onFrames: (frames: Buffer) => void
  /** Called when the thread has ended. `stack` is that of the error with which it crashed, if it did. */
  readonly onEnd: (thread: HandlerThread, end: ThreadEnd, stack: string | undefined) => void
}

export interface HandlerThread {
  /** Collects frames for the thread and sends them once per turn of the event loop. */
  readonly writer: Frame.Writer
  /** Element 0 counts the attempts that have begun in the thread. */
  readonly begun: Int32Array
  /** How many RUNs it has received. */
  given: number
  /** How many attempts it has. */
  running: number
  /** Resolves when its handlers are built, and rejects if that fails. Frames that are sent earlier wait. */
  readonly ready: Promise<void>
  /** Whether it can be terminated and replaced. The main thread cannot. */
  readonly replaceable: boolean
  /** Calls back from the thread's event loop, which shows that nothing blocks the thread. */
  readonly probe: (onHere: () => void) => void
  /** Terminates the thread, including handlers that ignore interruption. Does nothing for the main thread. */
  readonly terminate: (detail: string) => void
  /** Interrupts its attempts and releases the worker's layer. Resolves when this is done. */
  readonly close: () => Promise<unknown>
}

const heapMegabytes = (bytes: number, threads: number): number =>
  Math.max(16, Math.floor(bytes / threads / 1024 / 1024))

// `error` is any value that was thrown in the thread.
const isOutOfMemory = (error: unknown): boolean =>
  error instanceof Error && "code" in error && error.code === "ERR_WORKER_OUT_OF_MEMORY"

const counter = () => new Int32Array(new SharedArrayBuffer(4))

/** Runs handlers in a new thread. */
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
    // Replaces the host's own arguments, which limit the process and are not valid for threads.
    execArgv: ["--enable-source-maps"],
    stdout: true,
    stderr: true,
    ...(heap === undefined ? {} : { resourceLimits: { maxOldGenerationSizeMb: heap } })
  })
  // Output before `writeThrough` takes effect. Node's own forwarding ends at the first write that fails, and the output
  // then collects in memory.
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
    // This rejects `ready` for a thread that never was ready. For another thread it is already resolved.
    ready.reject(new Told(end.detail, stack))
    events.onEnd(thread, end, stack)
  })
  return thread
}

/**
 * Runs handlers in the main thread, for handlers that only wait. A handler that blocks the thread cannot be stopped.
 */
export const inMain = (bundle: URL, orders: Orders, events: Events): HandlerThread => {
  const begun = counter()
  let executor: Executor | undefined
  const load = async (): Promise<void> => {
    // Must come before the bundle is loaded: Node reads a source map when it loads the file.
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

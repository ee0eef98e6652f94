/**
 * The last module of a bundle. Serves the worker in a handler thread, or exports its executor to the host's main
 * thread.
 */
import { fromDefault, type Worker } from "@effect-ray/core/Worker"
import { type MessagePort, workerData } from "node:worker_threads"
import type { Executor, Options } from "./executor.ts"
import * as executor from "./executor.ts"
import type { Orders } from "./orders.ts"
import { writeThrough } from "./output.ts"
import { toldOf, tellCrashes } from "./told.ts"

/** The data with which the main thread starts a handler thread. */
export interface ThreadData {
  /** Marks the data as this project's. */
  readonly effectRay: true
  /** Carries frames, messages and orders. The `parentPort` is not used, because handlers can access it. */
  readonly port: MessagePort
  /** The limits on payloads and results, and the grace. */
  readonly limits: Orders["limits"]
  /** Element 0 counts the attempts that have begun in the thread. */
  readonly begun: Int32Array
}

/** What a handler thread sends in addition to frames. */
export type ThreadMessage =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Failed"; readonly message: string; readonly stack: string }
  /** The response to a probe: this thread's event loop is running. */
  | { readonly _tag: "Here" }

/** What a handler thread receives in addition to frames. */
export type ThreadOrder = "close" | "probe"

const isThreadData = (u: unknown): u is ThreadData => typeof u === "object" && u !== null && "effectRay" in u

// This runs before the worker's module is loaded, because that module comes later in the bundle.
if (isThreadData(workerData)) {
  tellCrashes((thrown) => {
    throw toldOf(thrown)
  })
}

/**
 * Copies frames into memory of exactly their size, which can then be transferred to another thread without another
 * copy.
 */
export const exactly = (frames: ReadonlyArray<Uint8Array>): Uint8Array<ArrayBuffer> => {
  let bytes = 0
  for (const part of frames) bytes += part.length
  const all = new Uint8Array(bytes)
  let at = 0
  for (const part of frames) {
    all.set(part, at)
    at += part.length
  }
  return all
}

const serve = async (worker: Worker, data: ThreadData): Promise<void> => {
  const { port } = data
  const tell = (message: ThreadMessage) => port.postMessage(message)
  try {
    const made = await executor.make(worker, {
      limits: data.limits,
      begun: data.begun,
      emit: (frames) => {
        const all = exactly(frames)
        port.postMessage(all, [all.buffer])
      }
    })
    port.on("message", (message: Uint8Array<ArrayBuffer> | ThreadOrder) => {
      if (message === "close") return void made.close().finally(() => process.exit(0))
      if (message === "probe") return tell({ _tag: "Here" })
      made.push(Buffer.from(message.buffer))
    })
    tell({ _tag: "Ready" })
  } catch (error) {
    const { message, stack } = toldOf(error)
    tell({ _tag: "Failed", message, stack: stack ?? "" })
  }
}

/** The default export of a bundle. */
export interface Bundle {
  /** Builds the worker's layer and returns an executor for the current thread. */
  readonly make: (options: Options) => Promise<Executor>
}

export const start = (exported: unknown): Bundle => {
  const worker = fromDefault(exported)
  if (worker === undefined) {
    throw new Error("the worker module's default export is not a Worker: export default Worker.make({ … })")
  }
  if (isThreadData(workerData)) {
    writeThrough(process.stdout, 1)
    writeThrough(process.stderr, 2)
    void serve(worker, workerData)
  }
  return { make: (options) => executor.make(worker, options) }
}

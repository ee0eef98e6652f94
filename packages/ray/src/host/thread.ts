/**
 * The end of a bundle: serves the worker in a handler thread, or hands its executor to the host's main thread.
 */
import { fromDefault, type Worker } from "@effect-ray/core/Worker"
import { type MessagePort, workerData } from "node:worker_threads"
import type { Executor, Options } from "./executor.ts"
import * as executor from "./executor.ts"
import type { Orders } from "./orders.ts"
import { writeThrough } from "./output.ts"
import { toldOf, tellCrashes } from "./told.ts"

/** What the main thread gives a handler thread. */
export interface ThreadData {
  readonly effectRay: true
  /** Not the `parentPort`, which every handler may reach. */
  readonly port: MessagePort
  readonly limits: Orders["limits"]
  readonly begun: Int32Array
}

/** What a handler thread tells beside frames. */
export type ThreadMessage =
  | { readonly _tag: "Ready" }
  | { readonly _tag: "Failed"; readonly message: string; readonly stack: string }
  /** The answer to a probe: this thread's event loop turns. */
  | { readonly _tag: "Here" }

/** What a handler thread is told beside frames. */
export type ThreadOrder = "close" | "probe"

const isThreadData = (u: unknown): u is ThreadData => typeof u === "object" && u !== null && "effectRay" in u

// Here, so that it holds while the worker's module is loaded: that comes after this one.
if (isThreadData(workerData)) {
  tellCrashes((thrown) => {
    throw toldOf(thrown)
  })
}

/** Copies frames into memory of exactly their size, which can then change threads without another copy. */
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

/** What a bundle exports. */
export interface Bundle {
  readonly make: (options: Options) => Promise<Executor>
}

export const start = (exported: unknown): Bundle => {
  const worker = fromDefault(exported)
  if (worker === undefined) {
    throw new Error("the worker module's default export is no Worker: export default Worker.make({ … })")
  }
  if (isThreadData(workerData)) {
    writeThrough(process.stdout, 1)
    writeThrough(process.stderr, 2)
    void serve(worker, workerData)
  }
  return { make: (options) => executor.make(worker, options) }
}

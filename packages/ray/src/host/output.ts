/**
 * Forwards what handlers print. A handler that prints faster than its output is read has to wait, so that nothing
 * collects in memory.
 */
import * as fs from "node:fs"
import type { Writable } from "node:stream"

/**
 * Writes a thread's output directly to the process's descriptor. Node would send it to the main thread, and keep it in
 * memory while that is behind.
 */
export const writeThrough = (output: Writable, descriptor: number): void => {
  output._write = (chunk: Uint8Array | string, encoding, done) => {
    writeAll(descriptor, typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk)
    done()
  }
  // Removes Node's own function, which it would prefer.
  Object.assign(output, { _writev: null })
}

/**
 * Makes writers wait while the pipe is full, including those that use the descriptor directly. Otherwise Node lets
 * their writes fail with EAGAIN.
 */
export const makeBlocking = (output: Writable): void => {
  const { _handle: handle } = output as {
    readonly _handle?: { readonly setBlocking?: (blocking: boolean) => void } | null
  }
  handle?.setBlocking?.(true)
}

const retryMillis = 1

const never = new Int32Array(new SharedArrayBuffer(4))

const writeAll = (descriptor: number, bytes: Uint8Array): void => {
  for (let at = 0; at < bytes.length;) {
    try {
      at += fs.writeSync(descriptor, bytes, at)
    } catch (error) {
      // Output that cannot be written, for instance because the disk is full, is dropped.
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) return
      // A process that a handler started has made the pipe non-blocking.
      Atomics.wait(never, 0, 0, retryMillis)
    }
  }
}

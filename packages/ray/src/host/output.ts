/** What handlers print on its way out of the host: whoever prints faster than it is read waits, and nothing piles up in memory. */
import * as fs from "node:fs"
import type { Writable } from "node:stream"

/** Writes a thread's output to the process's own itself: Node would send it to the main thread, and keep what it is behind. */
export const writeThrough = (output: Writable, descriptor: number): void => {
  output._write = (chunk: Uint8Array | string, encoding, done) => {
    writeAll(descriptor, typeof chunk === "string" ? Buffer.from(chunk, encoding) : chunk)
    done()
  }
  // Node's own way, which it would prefer.
  Object.assign(output, { _writev: null })
}

/** Has writers wait for a pipe that is full, those that write to the descriptor as well. Node has them fail with EAGAIN. */
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
      // What cannot be written, on a full disk for instance, is no reason to end.
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) return
      // A process that a handler started has made the pipe one that does not block.
      Atomics.wait(never, 0, 0, retryMillis)
    }
  }
}

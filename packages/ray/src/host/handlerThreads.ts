/**
 * Gives attempts to threads and knows, for each, how it stands.
 *
 * Cancelling: the fiber is interrupted. When the grace has passed, a thread that still answers has a handler that merely
 * ignores its interruption: the attempt ends unconfirmed, and the thread gets nothing more and is stopped once its other
 * attempts have ended. A thread that does not answer is stuck and is terminated, which ends even a busy loop: the attempt is
 * confirmed as interrupted, and those that shared its thread are lost as collateral, to be run again uncounted.
 *
 * A thread may be stuck without an attempt to blame, by what one left behind or by the worker's layer. What it is given then
 * never begins, so nobody would cancel it either: the thread is terminated as well.
 */
import * as Timer from "@effect-ray/core/Timer"
import * as Frame from "../Frame.ts"
import { silentMillis } from "../internal/frameSocket.ts"
import type { HandlerThread, ThreadEnd } from "./handlerThread.ts"

interface Running {
  readonly thread: HandlerThread
  /** Which of the thread's RUNs it is. */
  readonly order: number
  /** The header of its RUN, to answer with. */
  readonly header: Buffer
  grace: NodeJS.Timeout | undefined
  /** The grace has passed: its thread ends for its sake. */
  culprit: boolean
}

/** A thread that does not answer for so long, after the grace, is stuck. The gateway waits a second longer. */
const probeMillis = 1_000

/** An attempt that is over sooner is never announced as started: its result says it all. */
const announceMillis = 10

/** Both count in 32 bits and go round. */
const hasBegun = ({ thread, order }: Running): boolean => (Atomics.load(thread.begun, 0) - order | 0) >= 0

export class HandlerThreads {
  private readonly running = new Map<bigint, Running>()
  /** Replaced, and not stopped yet. */
  private readonly retired = new Set<HandlerThread>()
  private readonly unannounced = new Set<Running>()
  /** Those of whose attempts none has begun, asked whether they answer. */
  private readonly doubted = new Set<HandlerThread>()
  private announcing: NodeJS.Timeout | undefined
  private readonly threads: Array<HandlerThread>
  private readonly make: () => HandlerThread
  private readonly send: (frame: Frame.Reply, body: string) => void
  constructor(count: number, make: () => HandlerThread, send: (frame: Frame.Reply, body: string) => void) {
    this.threads = Array.from({ length: count }, make)
    this.make = make
    this.send = send
  }

  /** Settles when every thread can serve. */
  async ready(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.ready))
  }

  async close(): Promise<void> {
    await Promise.all(this.threads.map((thread) => thread.close()))
  }

  run(frame: Frame.Frame): void {
    const call = frame.wholeCall
    let entry = this.running.get(call)
    if (entry === undefined) {
      const thread = this.threads.reduce((least, thread) => thread.running < least.running ? thread : least)
      thread.running++
      entry = {
        thread,
        order: ++thread.given,
        header: Buffer.from(frame.buffer.subarray(frame.at, frame.at + Frame.headerBytes)),
        grace: undefined,
        culprit: false
      }
      this.running.set(call, entry)
      this.unannounced.add(entry)
      this.announcing ??= setTimeout(this.announce, announceMillis)
    }
    entry.thread.writer.bytes(frame.bytes)
  }

  private readonly announce = (): void => {
    this.announcing = undefined
    for (const entry of this.unannounced) {
      if (!hasBegun(entry)) continue
      this.unannounced.delete(entry)
      this.send({ type: Frame.Type.STARTED, flags: 0, route: 0, to: entry.header }, "")
    }
    for (const [thread, waiting] of this.waiting()) {
      if (waiting === thread.running && !this.doubted.has(thread)) this.doubt(thread)
    }
    if (this.unannounced.size > 0) this.announcing = setTimeout(this.announce, announceMillis)
  }

  /** Of each thread, how many of its attempts have not begun. */
  private waiting(): ReadonlyMap<HandlerThread, number> {
    const counts = new Map<HandlerThread, number>()
    for (const entry of this.unannounced) {
      if (!hasBegun(entry)) counts.set(entry.thread, (counts.get(entry.thread) ?? 0) + 1)
    }
    return counts
  }

  private doubt(thread: HandlerThread): void {
    this.doubted.add(thread)
    const ask = (): void => {
      const timer = setTimeout(() => {
        this.doubted.delete(thread)
        // An attempt may have begun, and be what keeps it busy.
        if ((this.waiting().get(thread) ?? 0) < thread.running) return
        thread.terminate("its thread was blocked, and by no attempt in it")
      }, silentMillis)
      thread.probe(() => {
        clearTimeout(timer)
        this.doubted.delete(thread)
      })
    }
    // One that cannot get ready ends its host.
    thread.ready.then(ask, () => {})
  }

  cancel(frame: Frame.Frame): void {
    const call = frame.wholeCall
    const entry = this.running.get(call)
    if (entry === undefined || entry.grace !== undefined) return
    entry.thread.writer.bytes(frame.bytes)
    const { graceMillis } = JSON.parse(frame.text)
    entry.grace = setTimeout(() => this.overdue(call, entry), Timer.bounded(graceMillis))
  }

  private overdue(call: bigint, entry: Running): void {
    entry.grace = setTimeout(() => {
      entry.culprit = true
      entry.thread.terminate("its thread was stopped for the sake of another attempt")
    }, probeMillis)
    entry.thread.probe(() => {
      if (this.running.get(call) !== entry) return
      this.retire(entry.thread)
      this.forget(call, entry)
      this.result(entry, Frame.Kind.unconfirmed)
    })
  }

  /** It keeps what runs in it. No more threads than serve are kept so, lest threads pile up. */
  private retire(thread: HandlerThread): void {
    const index = this.threads.indexOf(thread)
    if (index < 0 || !thread.replaceable || this.retired.size >= this.threads.length) return
    this.threads[index] = this.make()
    this.retired.add(thread)
  }

  private result(entry: Running, kind: number): void {
    this.send({ type: Frame.Type.RESULT, flags: Frame.kindFlags(kind), route: 0, to: entry.header }, "")
  }

  /** A RESULT from a thread. False: it belongs to nothing that runs. */
  ended(frame: Frame.Frame): boolean {
    const call = frame.wholeCall
    const entry = this.running.get(call)
    if (entry === undefined) return false
    if (!frame.hasMore) this.forget(call, entry)
    return true
  }

  private forget(call: bigint, entry: Running): void {
    this.running.delete(call)
    this.unannounced.delete(entry)
    clearTimeout(entry.grace)
    const { thread } = entry
    if (--thread.running === 0 && this.retired.has(thread)) thread.terminate("its thread was replaced")
  }

  /** The thread is gone, with all that ran in it. Another takes its place at once. */
  gone(thread: HandlerThread, end: ThreadEnd): void {
    const index = this.threads.indexOf(thread)
    if (index >= 0) this.threads[index] = this.make()
    this.retired.delete(thread)
    for (const [call, entry] of this.running) {
      if (entry.thread !== thread) continue
      const { culprit, header: to } = entry
      this.forget(call, entry)
      if (culprit) this.result(entry, Frame.Kind.interrupted)
      else {
        this.send(
          { type: Frame.Type.LOST, flags: 0, route: 0, to },
          JSON.stringify({ ...end, collateral: end.kind === "terminated" })
        )
      }
    }
  }
}

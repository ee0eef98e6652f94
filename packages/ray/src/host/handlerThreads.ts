/**
 * Assigns attempts to threads, and tracks the state of each attempt.
 *
 * To cancel an attempt, its fiber is interrupted. If it has not ended after the grace, the thread is probed. If the
 * thread answers, the handler ignores its interruption: the attempt ends as not confirmed, and the thread gets no more
 * attempts and is terminated when its other attempts have ended. If the thread does not answer, it is blocked and is
 * terminated, which ends even a busy loop: the attempt ends as interrupted and confirmed. The other attempts in that
 * thread are lost as collateral, and run again without being counted.
 *
 * A thread may also be blocked although none of its attempts causes it, by an abandoned handler or by the worker's
 * layer. Attempts that it receives then never begin, so they have no timeout that would end them. Such a thread is
 * terminated too.
 */
import * as Timer from "@effect-ray/core/Timer"
import * as Frame from "../Frame.ts"
import { silentMillis } from "../internal/frameSocket.ts"
import type { HandlerThread, ThreadEnd } from "./handlerThread.ts"

interface Running {
  /** The thread that has it. */
  readonly thread: HandlerThread
  /** Its number among the thread's RUNs, from 1. */
  readonly order: number
  /** The header of its RUN, for the response. */
  readonly header: Buffer
  /** The timer that ends the grace. Set once the attempt is cancelled. */
  grace: NodeJS.Timeout | undefined
  /** Whether its thread is terminated because this attempt did not stop. */
  culprit: boolean
}

/**
 * How long a thread may take to answer a probe after the grace. Then it counts as blocked. The gateway waits a second
 * longer.
 */
const probeMillis = 1_000

/** How long an attempt runs before it is announced as started. For a shorter one the result is enough. */
const announceMillis = 10

/** Both numbers have 32 bits and wrap around. */
const hasBegun = ({ thread, order }: Running): boolean => (Atomics.load(thread.begun, 0) - order | 0) >= 0

export class HandlerThreads {
  private readonly running = new Map<bigint, Running>()
  /** Threads that have been replaced but not terminated. */
  private readonly retired = new Set<HandlerThread>()
  private readonly unannounced = new Set<Running>()
  /** Threads with no attempt that has begun. They are being probed. */
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

  /** Resolves when every thread is ready. */
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

  /** How many attempts of each thread have not begun. */
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
        // An attempt may have begun in the meantime and be blocking the thread.
        if ((this.waiting().get(thread) ?? 0) < thread.running) return
        thread.terminate("its thread was blocked, but not by one of its attempts")
      }, silentMillis)
      thread.probe(() => {
        clearTimeout(timer)
        this.doubted.delete(thread)
      })
    }
    // A thread that does not become ready ends its host.
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
      entry.thread.terminate("its thread was terminated because another attempt did not stop")
    }, probeMillis)
    entry.thread.probe(() => {
      if (this.running.get(call) !== entry) return
      this.retire(entry.thread)
      this.forget(call, entry)
      this.result(entry, Frame.Kind.unconfirmed)
    })
  }

  /**
   * Replaces a thread, which keeps its running attempts. At most as many retired threads are kept as there are serving
   * ones, so that they do not accumulate.
   */
  private retire(thread: HandlerThread): void {
    const index = this.threads.indexOf(thread)
    if (index < 0 || !thread.replaceable || this.retired.size >= this.threads.length) return
    this.threads[index] = this.make()
    this.retired.add(thread)
  }

  private result(entry: Running, kind: number): void {
    this.send({ type: Frame.Type.RESULT, flags: Frame.kindFlags(kind), route: 0, to: entry.header }, "")
  }

  /** Takes a RESULT from a thread. Returns false if its attempt is not running. */
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

  /** Called when a thread is gone, with all of its attempts. Replaces the thread at once. */
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

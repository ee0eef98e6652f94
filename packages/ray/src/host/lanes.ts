/**
 * Gives attempts to lanes and knows, for each, how it stands.
 *
 * Cancelling: the fiber is interrupted. When the grace has passed, a lane that still answers has a handler that merely
 * ignores its interruption: the attempt ends unconfirmed, and the lane gets nothing more and is stopped once its other
 * attempts have ended. A lane that does not answer is stuck and is terminated, which ends even a busy loop: the attempt is
 * confirmed as interrupted, and those that shared its thread are lost as collateral, to be run again uncounted.
 *
 * A lane may be stuck without an attempt to blame, by what one left behind or by the worker's layer. What it is given then
 * never begins, so nobody would cancel it either: the lane is terminated as well.
 */
import * as Timer from "@effect-ray/core/Timer"
import * as Frame from "../Frame.ts"
import { silentMillis } from "../internal/frameSocket.ts"
import type { Lane, LaneEnd } from "./lane.ts"

interface Running {
  readonly lane: Lane
  /** Which of the lane's RUNs it is. */
  readonly order: number
  /** The header of its RUN, to answer with. */
  readonly header: Buffer
  grace: NodeJS.Timeout | undefined
  /** The grace has passed: its lane ends for its sake. */
  culprit: boolean
}

/** A lane that does not answer for so long, after the grace, is stuck. The gateway waits a second longer. */
const probeMillis = 1_000

/** An attempt that is over sooner is never announced as started: its result says it all. */
const announceMillis = 10

/** Both count in 32 bits and go round. */
const hasBegun = ({ lane, order }: Running): boolean => (Atomics.load(lane.begun, 0) - order | 0) >= 0

export class Lanes {
  private readonly running = new Map<bigint, Running>()
  /** Replaced, and not stopped yet. */
  private readonly retired = new Set<Lane>()
  private readonly unannounced = new Set<Running>()
  /** Those of whose attempts none has begun, asked whether they answer. */
  private readonly doubted = new Set<Lane>()
  private announcing: NodeJS.Timeout | undefined
  private readonly lanes: Array<Lane>
  private readonly make: () => Lane
  private readonly send: (frame: Frame.Reply, body: string) => void
  constructor(count: number, make: () => Lane, send: (frame: Frame.Reply, body: string) => void) {
    this.lanes = Array.from({ length: count }, make)
    this.make = make
    this.send = send
  }

  /** Settles when every lane can serve. */
  async ready(): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.ready))
  }

  async close(): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.close()))
  }

  run(frame: Frame.Frame): void {
    const call = frame.wholeCall
    let entry = this.running.get(call)
    if (entry === undefined) {
      const lane = this.lanes.reduce((least, lane) => lane.running < least.running ? lane : least)
      lane.running++
      entry = {
        lane,
        order: ++lane.given,
        header: Buffer.from(frame.buffer.subarray(frame.at, frame.at + Frame.headerBytes)),
        grace: undefined,
        culprit: false
      }
      this.running.set(call, entry)
      this.unannounced.add(entry)
      this.announcing ??= setTimeout(this.announce, announceMillis)
    }
    entry.lane.writer.bytes(frame.bytes)
  }

  private readonly announce = (): void => {
    this.announcing = undefined
    for (const entry of this.unannounced) {
      if (!hasBegun(entry)) continue
      this.unannounced.delete(entry)
      this.send({ type: Frame.Type.STARTED, flags: 0, route: 0, to: entry.header }, "")
    }
    for (const [lane, waiting] of this.waiting()) {
      if (waiting === lane.running && !this.doubted.has(lane)) this.doubt(lane)
    }
    if (this.unannounced.size > 0) this.announcing = setTimeout(this.announce, announceMillis)
  }

  /** Of each lane, how many of its attempts have not begun. */
  private waiting(): ReadonlyMap<Lane, number> {
    const counts = new Map<Lane, number>()
    for (const entry of this.unannounced) {
      if (!hasBegun(entry)) counts.set(entry.lane, (counts.get(entry.lane) ?? 0) + 1)
    }
    return counts
  }

  private doubt(lane: Lane): void {
    this.doubted.add(lane)
    const ask = (): void => {
      const timer = setTimeout(() => {
        this.doubted.delete(lane)
        // An attempt may have begun, and be what keeps it busy.
        if ((this.waiting().get(lane) ?? 0) < lane.running) return
        lane.terminate("its thread was blocked, and by no attempt in it")
      }, silentMillis)
      lane.probe(() => {
        clearTimeout(timer)
        this.doubted.delete(lane)
      })
    }
    // One that cannot get ready ends its host.
    lane.ready.then(ask, () => {})
  }

  cancel(frame: Frame.Frame): void {
    const call = frame.wholeCall
    const entry = this.running.get(call)
    if (entry === undefined || entry.grace !== undefined) return
    entry.lane.writer.bytes(frame.bytes)
    const { graceMillis } = JSON.parse(frame.text)
    entry.grace = setTimeout(() => this.overdue(call, entry), Timer.bounded(graceMillis))
  }

  private overdue(call: bigint, entry: Running): void {
    entry.grace = setTimeout(() => {
      entry.culprit = true
      entry.lane.terminate("its thread was stopped for the sake of another attempt")
    }, probeMillis)
    entry.lane.probe(() => {
      if (this.running.get(call) !== entry) return
      this.retire(entry.lane)
      this.forget(call, entry)
      this.result(entry, Frame.Kind.unconfirmed)
    })
  }

  /** It keeps what runs in it. No more lanes than serve are kept so, lest threads pile up. */
  private retire(lane: Lane): void {
    const index = this.lanes.indexOf(lane)
    if (index < 0 || !lane.replaceable || this.retired.size >= this.lanes.length) return
    this.lanes[index] = this.make()
    this.retired.add(lane)
  }

  private result(entry: Running, kind: number): void {
    this.send({ type: Frame.Type.RESULT, flags: Frame.kindFlags(kind), route: 0, to: entry.header }, "")
  }

  /** A RESULT from a lane. False: it belongs to nothing that runs. */
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
    const { lane } = entry
    if (--lane.running === 0 && this.retired.has(lane)) lane.terminate("its thread was replaced")
  }

  /** The lane is gone, with all that ran in it. Another takes its place at once. */
  gone(lane: Lane, end: LaneEnd): void {
    const index = this.lanes.indexOf(lane)
    if (index >= 0) this.lanes[index] = this.make()
    this.retired.delete(lane)
    for (const [call, entry] of this.running) {
      if (entry.lane !== lane) continue
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

/**
 * Gives attempts to lanes and knows, for each, how it stands.
 *
 * Cancelling: the fiber is interrupted; when the grace has passed the lane is terminated, which ends even a busy
 * loop. The attempt that was to be stopped is then confirmed as interrupted, and those that shared its thread are lost
 * as collateral, to be run again uncounted.
 */
import * as Frame from "../Frame.ts"
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

/** An attempt that is over sooner is never announced as started: its result says it all. */
const announceMillis = 10

export class Lanes {
  private readonly running = new Map<bigint, Running>()
  private readonly unannounced = new Set<Running>()
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
      if (Atomics.load(entry.lane.begun, 0) - entry.order < 0) continue
      this.unannounced.delete(entry)
      this.send({ type: Frame.Type.STARTED, flags: 0, route: 0, to: entry.header }, "")
    }
    if (this.unannounced.size > 0) this.announcing = setTimeout(this.announce, announceMillis)
  }

  cancel(frame: Frame.Frame): void {
    const entry = this.running.get(frame.wholeCall)
    if (entry === undefined || entry.grace !== undefined) return
    entry.lane.writer.bytes(frame.bytes)
    const { graceMillis } = JSON.parse(frame.text)
    entry.grace = setTimeout(() => {
      entry.culprit = true
      entry.lane.terminate()
    }, graceMillis)
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
    entry.lane.running--
    clearTimeout(entry.grace)
  }

  /** The lane is gone, with all that ran in it. Another takes its place at once: see its `ready`. */
  replace(lane: Lane, end: LaneEnd): Lane {
    const replacement = this.make()
    this.lanes[this.lanes.indexOf(lane)] = replacement
    for (const [call, entry] of this.running) {
      if (entry.lane !== lane) continue
      const { culprit, header: to } = entry
      this.forget(call, entry)
      if (culprit) {
        this.send({
          type: Frame.Type.RESULT,
          flags: Frame.kindFlags(Frame.Kind.interrupted),
          route: 0,
          to
        }, "")
      } else {
        this.send(
          { type: Frame.Type.LOST, flags: 0, route: 0, to },
          JSON.stringify({ ...end, collateral: end.kind === "terminated" })
        )
      }
    }
    return replacement
  }
}

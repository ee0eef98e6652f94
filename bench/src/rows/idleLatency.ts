/**
 * `idle-latency`: from before the enqueue until the handler starts in another process, p50 in milliseconds.
 *
 * One at a time, with a pause in between, so that nothing is queued and both sides are waiting again.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Contestant } from "../contestants/side.ts"
import * as Row from "../Row.ts"

const samples = 100

/** Samples without a pause before the first round, so that the worker's code is compiled. */
const warmUp = 2_000

/** An odd number, for the median. */
const rounds = 5

/** Long enough for the work after a job's end (settling, looking for more) to finish. */
const pause = "25 millis"

const latency = Effect.fnUntraced(function*({ child, side }: Contestant) {
  const enqueuedAt = process.hrtime.bigint()
  yield* side.enqueueOne
  const handledAt = yield* Queue.take(child.handled)
  return Number(handledAt - enqueuedAt) / 1e6
})

/** Samples of both in turns, so that other load on the machine affects both alike. */
const round = Effect.fnUntraced(function*(ours: Contestant, peer: Contestant, samples: number, pause: Duration.Input) {
  const latencies = { ours: Array<number>(), peer: Array<number>() }
  for (let n = 0; n < samples; n++) {
    latencies.ours.push(yield* Effect.delay(latency(ours), pause))
    latencies.peer.push(yield* Effect.delay(latency(peer), pause))
  }
  return { ours: Row.median(latencies.ours), peer: Row.median(latencies.peer) }
})

export const run = Effect.fnUntraced(function*(ours: Contestant, peer: Contestant) {
  const medians = { ours: Array<number>(), peer: Array<number>() }
  yield* ours.child.ask({ _tag: "Serve" })
  yield* peer.child.ask({ _tag: "Serve" })
  yield* round(ours, peer, warmUp, 0)
  for (let n = 1; n <= rounds; n++) {
    const median = yield* round(ours, peer, samples, pause)
    yield* Row.progress("idle-latency", n, rounds, median.ours, median.peer)
    medians.ours.push(median.ours)
    medians.peer.push(median.peer)
  }
  yield* ours.child.ask({ _tag: "Stop" })
  yield* peer.child.ask({ _tag: "Stop" })
  return Row.make({ name: "idle-latency", ...medians, peerName: peer.side.name, higherIsBetter: false, unit: "ms" })
})

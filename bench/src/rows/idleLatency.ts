/**
 * `idle-latency`: from before the enqueue until the handler starts in another process, p50 in milliseconds.
 *
 * One at a time, with a pause in between: nothing is queued, and every side has gone back to waiting.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Child } from "../contestants/child.ts"
import type { Side } from "../contestants/side.ts"
import * as Row from "../Row.ts"

const samples = 100

/** Samples without a pause before the first round: a worker that has been up for a while is compiled. */
const warmUp = 2_000

/** An odd number, for the median. */
const rounds = 5

/** Long enough for what follows a job's end (settling, looking for more) to be over. */
const pause = "25 millis"

const latency = Effect.fnUntraced(function*(side: Side, child: Child) {
  const enqueuedAt = process.hrtime.bigint()
  yield* side.enqueueOne
  const handledAt = yield* Queue.take(child.handled)
  return Number(handledAt - enqueuedAt) / 1e6
})

const round = Effect.fnUntraced(function*(side: Side, child: Child, samples: number, pause: Duration.Input) {
  yield* child.ask({ _tag: "Serve" })
  const latencies = yield* Effect.replicateEffect(Effect.delay(latency(side, child), pause), samples)
  yield* child.ask({ _tag: "Stop" })
  return Row.median(latencies)
})

export const run = Effect.fnUntraced(function*(
  ours: { readonly side: Side; readonly child: Child },
  peer: { readonly side: Side; readonly child: Child }
) {
  const medians = { ours: Array<number>(), peer: Array<number>() }
  yield* round(ours.side, ours.child, warmUp, 0)
  yield* round(peer.side, peer.child, warmUp, 0)
  for (let n = 1; n <= rounds; n++) {
    const ourMedian = yield* round(ours.side, ours.child, samples, pause)
    const peerMedian = yield* round(peer.side, peer.child, samples, pause)
    yield* Row.progress("idle-latency", n, rounds, ourMedian, peerMedian)
    medians.ours.push(ourMedian)
    medians.peer.push(peerMedian)
  }
  return Row.make({ name: "idle-latency", ...medians, peerName: peer.side.name, higherIsBetter: false, unit: "ms" })
})

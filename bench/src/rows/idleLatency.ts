/**
 * `idle-latency`: from before the enqueue until the handler starts in another process, p50 in milliseconds.
 *
 * One at a time, with a pause in between: nothing is queued, and every side has gone back to waiting.
 */
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import type { Child } from "../contestants/child.ts"
import type { Side } from "../contestants/side.ts"
import * as Row from "../Row.ts"

const samples = 100

/** An odd number, for the median. */
const rounds = 5

/** Long enough for what follows a job's end (settling, looking for more) to be over. */
const pause = "25 millis"

const latency = Effect.fnUntraced(function*(side: Side, child: Child) {
  yield* Effect.sleep(pause)
  const enqueuedAt = process.hrtime.bigint()
  yield* side.enqueueOne
  const handledAt = yield* Queue.take(child.handled)
  return Number(handledAt - enqueuedAt) / 1e6
})

const round = Effect.fnUntraced(function*(side: Side, child: Child, samples: number) {
  yield* child.ask({ _tag: "Serve" })
  const latencies = yield* Effect.replicateEffect(latency(side, child), samples)
  yield* child.ask({ _tag: "Stop" })
  return Row.median(latencies)
})

export const run = Effect.fnUntraced(function*(
  ours: { readonly side: Side; readonly child: Child },
  peer: { readonly side: Side; readonly child: Child }
) {
  const medians = { ours: Array<number>(), peer: Array<number>() }
  // The first round warms both up.
  for (let n = 0; n <= rounds; n++) {
    const ourMedian = yield* round(ours.side, ours.child, samples)
    const peerMedian = yield* round(peer.side, peer.child, samples)
    if (n === 0) continue
    yield* Row.progress("idle-latency", n, rounds, ourMedian, peerMedian)
    medians.ours.push(ourMedian)
    medians.peer.push(peerMedian)
  }
  return Row.make({ name: "idle-latency", ...medians, peerName: peer.side.name, higherIsBetter: false, unit: "ms" })
})

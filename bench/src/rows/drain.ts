/**
 * `drain`: one worker in one process runs queued no-op executions, in executions per second.
 *
 * From the first handler's start until the last end is recorded. Our records are kept in history; the peer deletes its
 * jobs.
 */
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import type { Contestant } from "../contestants/side.ts"
import * as Row from "../Row.ts"

/** How many executions are queued for a round. */
const executions = 50_000

/** How many are queued for the first round, which warms up both sides and is not counted. */
const warmUp = 25_000

/** An odd number, for the median. */
const rounds = 5

const round = Effect.fnUntraced(function*({ child, side }: Contestant, executions: number) {
  const sql = yield* PgClient.PgClient
  yield* side.enqueueMany(executions)
  // Neither side pays for what earlier rounds have left behind.
  yield* sql`VACUUM`.unprepared
  yield* sql`CHECKPOINT`.unprepared
  const millis = yield* child.ask({ _tag: "Drain", executions })
  return executions / millis * 1000
})

export const run = Effect.fnUntraced(function*(ours: Contestant, peer: Contestant) {
  const rates = { ours: Array<number>(), peer: Array<number>() }
  for (let n = 0; n <= rounds; n++) {
    const backlog = n === 0 ? warmUp : executions
    const ourRate = yield* round(ours, backlog)
    const peerRate = yield* round(peer, backlog)
    if (n === 0) continue
    yield* Row.progress("drain", n, rounds, ourRate, peerRate)
    rates.ours.push(ourRate)
    rates.peer.push(peerRate)
  }
  return Row.make({ name: "drain", ...rates, peerName: peer.side.name, higherIsBetter: true, unit: "executions/s" })
})

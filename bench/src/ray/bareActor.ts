/** The peer of the Ray rows: a Ray Job that calls a bare Python actor, on the same cluster. */
import * as Bundle from "@effect-ray/ray/Bundle"
import * as RayCluster from "@effect-ray/ray/RayCluster"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"
import { inFlight, latencyCalls } from "./load.ts"

export const peerName = "bare Python actor call"

/** Fewer than ours: a bare call takes much longer, and the rate does not depend on the number of calls. */
const throughputCalls = 6_000

/** As many as our hosts. */
const actors = 2

const Line = Schema.fromJsonString(Schema.Struct({
  bareActor: Schema.Struct({ p50Millis: Schema.Number, callsPerSecond: Schema.Number })
}))

/** The job ended without printing its result. */
export class BareActorFailed extends Schema.TaggedError<BareActorFailed>()("BareActorFailed", {
  detail: Schema.String
}) {
  override get message() {
    return `the bare actor job ended without figures: ${this.detail}`
  }
}

export const measure = Effect.fnUntraced(function*(round: number) {
  const cluster = yield* RayCluster.RayCluster
  const submissionId = `effect-ray-bench-bare-actor-${round}-${process.pid}`
  const source = readFileSync(new URL("bare_actor.py", import.meta.url))
  const zip = yield* Bundle.pack({ "bare_actor.py": { content: source } })
  yield* cluster.submit({
    submissionId,
    entrypoint: `exec python bare_actor.py ${latencyCalls} ${throughputCalls} ${inFlight} ${actors}`,
    workingDir: yield* cluster.uploadPackage(zip),
    env: {},
    metadata: {}
  })
  const ended = yield* cluster.status(submissionId).pipe(
    Effect.repeat({
      until: (job) => Option.isSome(job) && RayCluster.isTerminal(job.value.status),
      schedule: Schedule.spaced("250 millis")
    })
  )
  const logs = Option.getOrElse(yield* cluster.logs(submissionId), () => "")
  const line = logs.split("\n").find((line) => line.startsWith("{\"bareActor\""))
  if (line === undefined) {
    return yield* new BareActorFailed({ detail: `${JSON.stringify(ended)}\n${logs.slice(-2_000)}` })
  }
  return (yield* Effect.orDie(Schema.decodeEffect(Line)(line))).bareActor
})

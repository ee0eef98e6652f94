/** The peer: bare calls of a Python actor, by a Python driver on the same head. */
import { RayCluster } from "@effect-ray/ray"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import { fileURLToPath } from "node:url"

export const name = "bare Python actor call"

const script = fileURLToPath(new URL("../../peers/bare_calls.py", import.meta.url))

const Figures = Schema.fromJsonString(Schema.Struct({
  bare_calls: Schema.Literal(1),
  p50_ms: Schema.Number,
  calls_per_second: Schema.Number
}))

class BareCallsFailed extends Schema.TaggedError<BareCallsFailed>()("BareCallsFailed", { logs: Schema.String }) {
  override get message() {
    return `${script} failed: ${this.logs}`
  }
}

/** Runs the driver as a Ray Job, and answers what it measured. */
export const measure = Effect.gen(function*() {
  const cluster = yield* RayCluster.RayCluster
  const submissionId = `bare-calls-${randomUUID()}`
  // A path, not a package: the head is a process of this machine.
  yield* cluster.submit({ submissionId, entrypoint: `exec python '${script}'` })
  yield* Effect.repeat(cluster.status(submissionId), {
    until: Option.exists(({ status }) => RayCluster.isTerminal(status)),
    schedule: Schedule.spaced("200 millis")
  })
  const logs = Option.getOrElse(yield* cluster.logs(submissionId), () => "")
  const line = logs.split("\n").find((line) => line.includes(`"bare_calls"`))
  if (line === undefined) return yield* new BareCallsFailed({ logs: logs.slice(-2_000) })
  return yield* Schema.decodeEffect(Figures)(line)
})

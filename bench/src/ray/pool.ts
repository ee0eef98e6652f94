/** Calls through the warm pool: the runner alone, no Postgres. */
import { Runner } from "@effect-ray/core"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { randomUUID } from "node:crypto"
import * as Row from "../Row.ts"
import { Echo } from "./worker.ts"

/** Calls in flight at once, on both sides. */
const inFlight = 500

const callsOneAtATime = 1_000

const callsInFlight = 40_000

const call = (runner: Runner.Runner["Service"], id: number): Effect.Effect<void> =>
  Effect.suspend(() => {
    const attempt: Runner.Attempt = {
      execution: randomUUID(),
      fence: 1,
      task: Echo,
      queue: "ray",
      attempt: 1,
      payload: `{"id":${id}}`,
      traceparent: Option.none(),
      suspect: false,
      onStart: () => {}
    }
    return Effect.flatMap(runner.run(attempt), (ended) =>
      ended._tag === "Succeeded"
        ? runner.acknowledge([attempt])
        : Effect.die(new Error(`a call did not succeed: ${JSON.stringify(ended)}`)))
  })

/** The p50 of calls one at a time, in milliseconds. */
export const latency = Effect.gen(function*() {
  const runner = yield* Runner.Runner
  const times: Array<number> = []
  for (let n = 0; n < callsOneAtATime; n++) {
    const begin = performance.now()
    yield* call(runner, n)
    times.push(performance.now() - begin)
  }
  return Row.median(times)
})

/** Calls per second with many in flight. */
export const throughput = Effect.gen(function*() {
  const runner = yield* Runner.Runner
  const begin = performance.now()
  const ids = Array.from({ length: callsInFlight }, (_, n) => n)
  yield* Effect.forEach(ids, (id) => call(runner, id), { concurrency: inFlight, discard: true })
  return callsInFlight / (performance.now() - begin) * 1000
})

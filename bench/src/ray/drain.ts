/** Executions claimed from Postgres, run on Ray's hosts and settled in Postgres, records kept. */
import { Supervisor, Task } from "@effect-ray/core"
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import worker, { Echo } from "./worker.ts"

const executions = 30_000

/** Payloads in one call of `enqueueAll`. */
const chunk = 5_000

/** Attempts at once: as many as the bare calls have in flight. */
const concurrency = 500

const isEmpty = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ empty: boolean }>`SELECT NOT EXISTS (SELECT FROM effect_ray.executions) AS empty`
  return rows[0]!.empty
})

/** Executions per second, from the supervisor's start until the last end is recorded. */
export const rate = Effect.gen(function*() {
  for (let first = 0; first < executions; first += chunk) {
    yield* Task.enqueueAll(Echo, Array.from({ length: chunk }, (_, n) => ({ id: first + n })))
  }
  const begin = performance.now()
  const supervisor = yield* Effect.forkChild(Supervisor.run({ worker, concurrency }))
  yield* Effect.repeat(Effect.andThen(Effect.sleep("10 millis"), isEmpty), { until: (empty) => empty })
  const seconds = (performance.now() - begin) / 1000
  yield* Fiber.interrupt(supervisor)
  return executions / seconds
})

/** effect-ray with a worker that runs handlers in its own process. */
import { InProcessRunner, Supervisor, Worker } from "@effect-ray/core"
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as effectRay from "./effectRay.ts"
import { Noop } from "./noop.ts"
import { serve } from "./protocol.ts"

/** As the peer's `concurrentJobs`. */
const concurrency = 24

await serve(async (databaseUrl) => {
  let handled = () => {}
  const worker = Worker.make({ tasks: [Noop], handlers: Noop.toLayer(() => Effect.sync(() => handled())) })
  const runtime = ManagedRuntime.make(Layer.mergeAll(
    effectRay.layer(Redacted.make(databaseUrl), 4),
    InProcessRunner.layer(worker),
    Logger.layer([])
  ))
  let fiber: Fiber.Fiber<never, unknown> | undefined
  return {
    start: async (_goal, onHandled) => {
      handled = onHandled
      fiber = runtime.runFork(Supervisor.run({ worker, concurrency }))
    },
    stop: async () => {
      if (fiber !== undefined) await runtime.runPromise(Fiber.interrupt(fiber))
    },
    isEmpty: () =>
      runtime.runPromise(Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const rows = yield* sql<{ empty: boolean }>`SELECT NOT EXISTS (SELECT FROM effect_ray.executions) AS empty`
        return rows[0]!.empty
      }))
  }
})

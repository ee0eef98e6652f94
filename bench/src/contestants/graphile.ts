/** graphile-worker, from the application's side: how it enqueues jobs. */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { Logger, makeWorkerUtils } from "graphile-worker"
import type { Side } from "./side.ts"

export const make = Effect.fnUntraced(function*(databaseUrl: Redacted.Redacted) {
  const logger = new Logger(() => () => {})
  const utils = yield* Effect.acquireRelease(
    Effect.promise(() => makeWorkerUtils({ connectionString: Redacted.value(databaseUrl), logger })),
    (utils) => Effect.promise(async () => utils.release())
  )
  yield* Effect.promise(() => utils.migrate())
  const side: Side = {
    name: "graphile-worker 0.18",
    module: "./graphileWorker.ts",
    enqueueOne: Effect.promise(() => utils.addJob("noop", { id: 1 })),
    enqueueMany: (n) =>
      Effect.promise(() =>
        utils.withPgClient((client) =>
          client.query(
            "SELECT graphile_worker.add_jobs(array_agg(json_populate_record(NULL::graphile_worker.job_spec, "
              + "json_build_object('identifier', 'noop', 'payload', json_build_object('id', i))))) "
              + "FROM generate_series(1, $1::int) i",
            [n]
          )
        )
      )
  }
  return side
})

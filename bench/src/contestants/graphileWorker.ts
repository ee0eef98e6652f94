/**
 * graphile-worker, set up as its performance page recommends: local queue and batching are on for throughput, and off
 * for latency, because they make it worse.
 *
 * https://worker.graphile.org/docs/performance
 */
import { Logger, makeWorkerUtils, run, type Runner } from "graphile-worker"
import { serve } from "./protocol.ts"

const quiet = new Logger(() => () => {})

const batching = {
  localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0
}

const preset = (connectionString: string, goal: "throughput" | "latency") => ({
  worker: {
    connectionString,
    concurrentJobs: 24,
    maxPoolSize: 25,
    preparedStatements: true,
    ...(goal === "throughput" ? batching : {}),
    logger: quiet
  }
})

await serve(async (databaseUrl) => {
  const utils = await makeWorkerUtils({ connectionString: databaseUrl, logger: quiet })
  await utils.migrate()
  let runner: Runner | undefined
  return {
    start: async (goal, handled) => {
      runner = await run({ preset: preset(databaseUrl, goal), noHandleSignals: true, taskList: { noop: handled } })
    },
    stop: async () => runner?.stop(),
    isEmpty: () =>
      utils.withPgClient(async (client) => {
        const { rows } = await client.query<{ empty: boolean }>(
          "SELECT NOT EXISTS (SELECT FROM graphile_worker._private_jobs) AS empty"
        )
        return rows[0]!.empty
      })
  }
})

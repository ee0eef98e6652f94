/**
 * graphile-worker with the settings of its own performance page: local queue and batching on.
 *
 * https://worker.graphile.org/docs/performance
 */
import { Logger, makeWorkerUtils, run, type Runner } from "graphile-worker"
import { serve } from "./protocol.ts"

const quiet = new Logger(() => () => {})

const preset = (connectionString: string) => ({
  worker: {
    connectionString,
    concurrentJobs: 24,
    maxPoolSize: 25,
    preparedStatements: true,
    localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger: quiet
  }
})

await serve(async (databaseUrl) => {
  const utils = await makeWorkerUtils({ connectionString: databaseUrl, logger: quiet })
  await utils.migrate()
  let runner: Runner | undefined
  return {
    start: async (handled) => {
      runner = await run({ preset: preset(databaseUrl), noHandleSignals: true, taskList: { noop: handled } })
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

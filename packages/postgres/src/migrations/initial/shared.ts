/**
 * What the functions of the first schema have in common.
 *
 * The statements whose plan must not be left to statistics are functions of the schema. A queue's table is empty one
 * moment and holds a million rows the next, and a cached plan made for the empty table reads all of it; inside a
 * function the planner can be told not to, on any pool and behind any pgbouncer.
 */
export const pinned = `
  SET enable_seqscan = off
  SET enable_bitmapscan = off
  SET enable_hashjoin = off
  SET enable_mergejoin = off
  SET plan_cache_mode = force_generic_plan
  SET jit = off
`

/** What a function that ends executions answers: whom to tell. */
export const woken = `
    -- Processes that await what has ended, and what it is: two arrays of one length.
    woken_processes text[],
    woken_ids uuid[],
    -- Queues that got something back.
    queues text[]
`

/** The values of a history row that depend on how the execution ended; SQL over the source row `e`. */
export interface Ending {
  /** Where the rows come from: a relation with the columns of `executions`, named `e`. */
  readonly from: string
  readonly state: string
  readonly result: string
  readonly outcome: string
  readonly attempt: string
  readonly attempts: string
  readonly losses: string
  readonly settled: string
  readonly confirmed: string
  readonly supervisor: string
  readonly runnerRef: string
}

/** Files rows into history. `ended` is a variable of the function around it. */
export const file = (s: string, ending: Ending): string => `
      INSERT INTO ${s}.history (
        id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
        at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
        state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
      )
      SELECT
        e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
        e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
        ${ending.state}, ${ending.result}, ${ending.outcome}, ${ending.attempt}, ${ending.attempts}, ${ending.losses},
        ${ending.settled}, ${ending.confirmed}, ${ending.supervisor}, ${ending.runnerRef}
      FROM ${ending.from}`

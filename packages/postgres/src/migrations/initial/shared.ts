/** What the functions of the first schema have in common. */

/**
 * A function runs as the schema's owner, so a role that may call it needs no right to any table: `docs/roles.md`.
 * Nothing it is given becomes part of a statement, and names are looked up where nobody else can put any.
 */
export const safe = `
  SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp`

/**
 * The statements whose plan must not be left to statistics are functions of the schema. A queue's table is empty one
 * moment and holds a million rows the next, and a cached plan made for the empty table reads all of it; inside a
 * function the planner can be told not to, on any pool and behind any pgbouncer.
 */
export const pinned = `
  ${safe}
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

/**
 * Whom to tell of what has just ended: a statement of its own, after the one that ended it, which waited for the names.
 * `over` is an array of ids; none, or null, is fine.
 */
export const takeWaiters = (s: string, over: string, processes = "woken_processes", ids = "woken_ids"): string => `
    WITH gone AS (
      DELETE FROM ${s}.waiters w WHERE w.execution_id = ANY (${over}) RETURNING w.process, w.execution_id
    )
    SELECT array_agg(g.process::text), array_agg(g.execution_id) INTO ${processes}, ${ids} FROM gone g;`

/**
 * What waits for another transaction and then looks must see what that one did. Under a database's default of repeatable
 * read it would look as if from before, and leave executions running under a supervisor that is gone.
 */
export const needReadCommitted = `
    IF current_setting('transaction_isolation') <> 'read committed' THEN
      RAISE EXCEPTION
        'effect-ray needs the isolation level read committed, and this session begins with "%"; for its role, run ALTER ROLE ... SET default_transaction_isolation = ''read committed''',
        current_setting('transaction_isolation')
        USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;`

/**
 * Only where rows are written is it known what they hold: a standby may be behind, and what was enqueued a moment ago
 * would seem never to have been. The answer is the one that a write would get there.
 */
export const needPrimary = `
    IF pg_is_in_recovery() THEN
      RAISE EXCEPTION 'this server is a standby: effect-ray needs the one that is written to'
        USING ERRCODE = 'read_only_sql_transaction';
    END IF;`

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

/** Columns of a row that may hold anything, within what history takes. */
export const clamped = (column: string): string =>
  column === "fence"
    ? `least(greatest(e.fence, 0), 9007199254740991)`
    : `CASE WHEN e.${column} IS NOT NULL
          THEN least(greatest(e.${column}, '0001-01-01 00:00:00+00'), '200000-01-01 00:00:00+00') END`

/** Files rows into history. `ended` is a variable of the function around it. */
export const file = (s: string, ending: Ending, column: (name: string) => string = (name) => `e.${name}`): string => `
      INSERT INTO ${s}.history (
        id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
        at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
        state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
      )
      SELECT
        e.id, ended, ${column("enqueued_at")}, ${column("run_at")}, ${column("claimed_at")}, e.lane, ${column("fence")},
        e.timeout_millis, e.max_attempts, e.format, e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task,
        e.payload, e.tags, e.traceparent, e.key,
        ${ending.state}, ${ending.result}, ${ending.outcome}, ${ending.attempt}, ${ending.attempts}, ${ending.losses},
        ${ending.settled}, ${ending.confirmed}, ${ending.supervisor}, ${ending.runnerRef}
      FROM ${ending.from}`

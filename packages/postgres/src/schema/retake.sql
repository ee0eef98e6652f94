-- Takes executions back from supervisors that are gone, up to a bound, and returns whether there is more to take at
-- once. The caller has locked or deleted the supervisors' rows before, in a separate statement, so that none of their
-- claims is running.
CREATE OR REPLACE FUNCTION {schema}.retake(
  owners uuid[], losing boolean, max_rows integer, max_bytes bigint, max_losses integer,
  lost_result text, quarantined_result text, cancelled_result text
) RETURNS TABLE (
  taken integer,
  more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  woken_processes text[],
  woken_ids uuid[],
  -- Queues that got an execution back.
  queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- The end of the domain `fence`. A row with this fence cannot be claimed any more, and is set aside.
  max_fence CONSTANT bigint := 9007199254740991;
  ended timestamptz := {schema}.clock();
  taking uuid[];
  over uuid[];
BEGIN
  PERFORM {schema}.require_read_committed();
  -- Rows that another transaction holds wait for a later turn.
  SELECT array_agg(l.id)
  INTO taking
  FROM (
    SELECT x.id, sum(x.bytes) OVER (ORDER BY x.id) - x.bytes AS bytes_before
    FROM (
      SELECT e.id, octet_length(e.payload) AS bytes
      FROM {schema}.executions e
      WHERE e.owner = ANY (owners)
      ORDER BY e.id
      LIMIT max_rows
      FOR UPDATE SKIP LOCKED
    ) x
  ) l
  WHERE l.bytes_before < max_bytes;
  WITH decided AS MATERIALIZED (
    SELECT e.*,
      CASE
        -- A run goes on where its journal ends.
        WHEN e.kind = 'workflow' THEN 'queued'
        WHEN e.state = 'cancelling' THEN 'cancelled'
        -- At-most-once: it may have run, however its owner left.
        WHEN e.at_most_once OR (losing AND e.losses + 1 >= max_losses) THEN 'lost'
        ELSE 'queued'
      END AS next,
      e.kind = 'workflow' AND losing AND e.losses + 1 >= max_losses AS is_held
    FROM {schema}.executions e
    WHERE e.id = ANY (taking) AND e.owner = ANY (owners)
  ), gone AS (
    DELETE FROM {schema}.executions e USING decided d WHERE e.id = d.id AND d.next <> 'queued'
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      e.next,
      CASE
        WHEN e.next = 'cancelled' THEN cancelled_result
        WHEN e.at_most_once THEN lost_result
        ELSE quarantined_result
      END,
      e.next, e.attempts + 1, e.attempts, e.losses + (losing AND e.next = 'lost')::integer,
      false, NOT losing AND e.next <> 'lost', e.owner, NULL
    FROM decided e
    WHERE e.next <> 'queued'
  ), noted AS (
    INSERT INTO {schema}.attempts (
      execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at, result, place
    )
    SELECT e.id, e.fence, e.attempts + 1, CASE WHEN losing THEN 'lost' ELSE 'released' END, e.owner, false, NOT losing,
      e.claimed_at, ended, CASE WHEN losing THEN lost_result END, NULL
    FROM decided e
    WHERE e.next = 'queued' AND e.kind = 'task'
    ON CONFLICT DO NOTHING
  ), back AS (
    UPDATE {schema}.executions e
    SET state = CASE WHEN d.is_held THEN 'waiting' ELSE 'queued' END, home = NULL,
      held = CASE WHEN d.is_held THEN d.losses + 1 || ' workers were lost while they ran it' END,
      -- It may have been claimed before its time.
      run_at = CASE WHEN d.kind = 'workflow' THEN ended ELSE e.run_at END,
      owner = NULL, fence = least(e.fence + 1, max_fence), claimed_at = NULL, deadline_at = NULL,
      losses = e.losses + losing::integer
    FROM decided d
    WHERE e.id = d.id AND d.next = 'queued'
  )
  SELECT
    count(*)::integer,
    array_agg(d.id) FILTER (WHERE d.next <> 'queued'),
    array_agg(DISTINCT d.queue) FILTER (WHERE d.next = 'queued')
  INTO taken, over, queues
  FROM decided d;

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over) t;
  more := taken > 0 AND EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.owner = ANY (owners));
  RETURN NEXT;
END
$$;

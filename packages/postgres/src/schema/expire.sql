-- Ends executions that have not begun by their `startBy`.
CREATE OR REPLACE FUNCTION {schema}.expire(
  max_rows integer, max_bytes bigint, expired_result text,
  OUT expired integer,
  OUT more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
  over uuid[];
BEGIN
  WITH gone AS (
    DELETE FROM {schema}.executions e
    WHERE e.id IN (
      SELECT l.id
      FROM (
        SELECT x.id, sum(x.bytes) OVER (ORDER BY x.start_by, x.id) - x.bytes AS bytes_before
        FROM (
          SELECT d.id, d.start_by, octet_length(d.payload) AS bytes
          FROM {schema}.executions d
          WHERE d.state = 'queued' AND d.attempts = 0 AND d.losses = 0 AND d.start_by IS NOT NULL
            AND d.start_by <= {schema}.now()
          ORDER BY d.start_by
          LIMIT max_rows
          FOR UPDATE SKIP LOCKED
        ) x
      ) l
      WHERE l.bytes_before < max_bytes
    )
    RETURNING e.*
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      'expired', expired_result, NULL, NULL, e.attempts, e.losses, false, true, NULL, NULL
    FROM gone e
  )
  SELECT array_agg(g.id), count(*) INTO over, expired FROM gone g;
  -- Rows that another transaction holds wait for a later turn.
  more := expired > 0 AND EXISTS (
    SELECT 1
    FROM {schema}.executions e
    WHERE e.state = 'queued' AND e.attempts = 0 AND e.losses = 0 AND e.start_by IS NOT NULL
      AND e.start_by <= {schema}.now()
  );

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over) t;
END
$$;

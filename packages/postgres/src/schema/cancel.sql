-- Cancels an execution that has not started, or requests its worker to cancel it. Waits for a moment for an execution
-- that another transaction holds, then fails with lock_not_available.
CREATE OR REPLACE FUNCTION {schema}.cancel(
  wanted uuid, cancelled_result text,
  OUT answer text, OUT woken_processes text[], OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- How long it waits for an execution that another transaction holds. The caller tries again.
  lock_patience CONSTANT text := '50ms';
  ended timestamptz := {schema}.clock();
  found_state text;
  found_kind text;
  over uuid[];
  lock_timeout text := current_setting('lock_timeout');
BEGIN
  PERFORM set_config('lock_timeout', lock_patience, true);
  SELECT e.state, e.kind INTO found_state, found_kind FROM {schema}.executions e WHERE e.id = wanted FOR UPDATE;
  PERFORM set_config('lock_timeout', lock_timeout, true);
  IF found_state IS NULL THEN
    answer := 'TooLate';
    RETURN;
  END IF;
  IF found_kind = 'workflow' THEN
    -- Its owner interrupts it, when it has one: finalizers and compensations are steps of the run.
    INSERT INTO {schema}.inbox (run, key, value, at) VALUES (wanted, 'cancel', 'null', ended);
    INSERT INTO {schema}.wakes (run) VALUES (wanted);
    woken_processes := ARRAY['*'];
    woken_ids := ARRAY[wanted];
    answer := 'Requested';
    RETURN;
  END IF;
  IF found_state IN ('running', 'cancelling') THEN
    UPDATE {schema}.executions e SET state = 'cancelling' WHERE e.id = wanted AND e.state = 'running';
    answer := 'Requested';
    RETURN;
  END IF;
  WITH gone AS (
    DELETE FROM {schema}.executions e WHERE e.id = wanted RETURNING e.*
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      'cancelled', cancelled_result, NULL, NULL, e.attempts, e.losses, false, true, NULL, NULL
    FROM gone e
  )
  SELECT array_agg(g.id) INTO over FROM gone g;

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over) t;
  answer := 'Cancelled';
END
$$;

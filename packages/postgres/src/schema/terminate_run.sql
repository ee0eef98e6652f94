-- Ends a run at once, whoever owns it, and returns whether it was open. Its owner learns with its next commit that it has lost
-- the run. Waits for a moment for a run that another transaction holds, then fails with lock_not_available.
CREATE OR REPLACE FUNCTION {schema}.terminate_run(
  wanted uuid, terminated_result text,
  OUT was_open boolean,
  -- The process that may have it in memory.
  OUT home text,
  OUT woken_processes text[],
  OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
SET lock_timeout = '1s'
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM 1 FROM {schema}.executions e WHERE e.id = wanted AND e.kind = 'workflow' FOR UPDATE;
  was_open := FOUND;
  IF NOT was_open THEN
    RETURN;
  END IF;
  SELECT v.process::text
  INTO home
  FROM {schema}.executions e
  JOIN {schema}.supervisors v ON v.id = e.home
  WHERE e.id = wanted;
  WITH gone AS (
    DELETE FROM {schema}.executions e WHERE e.id = wanted RETURNING e.*
  )
  INSERT INTO {schema}.history (
    id, link, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
    at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
    state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place, journal
  )
  SELECT
    e.id, e.link, ended, e.enqueued_at, coalesce(e.link_at, e.enqueued_at), e.claimed_at, e.lane, e.fence,
    e.timeout_millis, e.max_attempts, e.format, e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task,
    e.payload, e.tags, e.traceparent, e.key, 'terminated', terminated_result, NULL, NULL, 0, e.losses, false, true,
    NULL, NULL, {schema}.packed_journal(e.id, true)
  FROM gone e;
  DELETE FROM {schema}.journal j WHERE j.run = wanted;
  DELETE FROM {schema}.inbox b WHERE b.run = wanted;
  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(ARRAY[wanted]) t;
END
$$;

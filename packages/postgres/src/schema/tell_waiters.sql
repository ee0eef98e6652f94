-- Tells those that wait for executions which have just been filed. Processes get a message, which the caller sends. Runs
-- get one in their inboxes, and a wake, which the caller applies after the commit.
CREATE OR REPLACE FUNCTION {schema}.tell_waiters(
  over uuid[],
  -- Processes that await executions, and those executions: two arrays of equal length. The process `*` stands for runs.
  OUT woken_processes text[],
  OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- As many as fit one message. The other processes find out by themselves, see `find_ended`.
  max_woken CONSTANT integer := 10000;
  told uuid[];
  ends uuid[];
BEGIN
  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id, w.run
  )
  SELECT
    (array_agg(g.process::text) FILTER (WHERE g.run IS NULL))[1:max_woken],
    (array_agg(g.execution_id) FILTER (WHERE g.run IS NULL))[1:max_woken],
    array_agg(g.run) FILTER (WHERE g.run IS NOT NULL),
    array_agg(g.execution_id) FILTER (WHERE g.run IS NOT NULL)
  INTO woken_processes, woken_ids, told, ends
  FROM gone g;
  IF told IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO {schema}.inbox (run, key, value, at)
  SELECT t.run, 'end:' || h.id, h.result, h.ended_at
  FROM unnest(told, ends) AS t(run, id)
  -- They have been filed in this transaction, so only today's partition is read, or yesterday's.
  JOIN {schema}.history h ON h.id = t.id AND h.finished_at > statement_timestamp() - interval '1 day';
  INSERT INTO {schema}.wakes (run) SELECT DISTINCT t.run FROM unnest(told) AS t(run);
  woken_processes := woken_processes || '*'::text;
  woken_ids := woken_ids || ends[1];
END
$$;

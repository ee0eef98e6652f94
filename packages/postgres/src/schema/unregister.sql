-- Ends a supervisor's lease in order: what it still owns goes back, and nothing counts as lost. Call it again while
-- there is more, and after a moment if nothing was taken, because another transaction holds the rows.
CREATE OR REPLACE FUNCTION {schema}.unregister(
  me uuid, max_rows integer, max_bytes bigint, lost_result text, cancelled_result text,
  OUT taken integer,
  OUT more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  -- Waits for a claim that is running.
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR UPDATE;
  SELECT r.taken, r.woken_processes, r.woken_ids, r.queues
  INTO taken, woken_processes, woken_ids, queues
  FROM {schema}.retake(ARRAY[me], false, max_rows, max_bytes, 0, lost_result, NULL, cancelled_result) r;
  more := EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.owner = me);
  IF NOT more THEN
    PERFORM {schema}.note_served(v.id, v.lanes, {schema}.clock()) FROM {schema}.supervisors v WHERE v.id = me;
    DELETE FROM {schema}.supervisors v WHERE v.id = me;
  END IF;
END
$$;

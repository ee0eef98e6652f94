-- Ends a supervisor's lease in peace: what it still holds goes back, and nothing counts as lost. To be called again while
-- there is more.
CREATE OR REPLACE FUNCTION {schema}.unregister(
  me uuid, max_rows integer, max_bytes bigint, lost_result text, cancelled_result text
) RETURNS TABLE (
  taken integer,
  more boolean,
  -- Processes that await what has ended, and the executions: two arrays of one length.
  woken_processes text[],
  woken_ids uuid[],
  -- Queues that got an execution back.
  queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  DELETE FROM {schema}.supervisors v WHERE v.id = me;
  RETURN QUERY
  SELECT * FROM {schema}.retake(ARRAY[me], false, max_rows, max_bytes, 0, lost_result, NULL, cancelled_result);
END
$$;

-- Returns which executions a supervisor owns, and how large their payloads are. A claim of its own that was cut off may
-- still be running: the lock waits until it has ended, and the second statement sees what it took.
CREATE OR REPLACE FUNCTION {schema}.owned_ids(me uuid) RETURNS TABLE (id uuid, fence bigint, bytes integer)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR UPDATE;
  RETURN QUERY
  SELECT e.id, e.fence::bigint, octet_length(e.payload)
  FROM {schema}.executions e
  WHERE e.owner = me AND e.kind = 'task' AND e.state IN ('running', 'cancelling');
END
$$;

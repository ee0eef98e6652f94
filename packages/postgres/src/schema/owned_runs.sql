-- Returns the runs that a supervisor owns, in the form in which `claim_runs` returns them. A claim of its own that was cut
-- off may still be running: the lock waits until it has ended, and the second statement sees what it took.
CREATE OR REPLACE FUNCTION {schema}.owned_runs(me uuid, max_unread integer, max_unread_bytes bigint) RETURNS TABLE (
  id uuid, name text, workflow text, payload text, format integer, fence bigint, link integer, length integer,
  unread text, started_millis double precision, expires_millis double precision, now_millis double precision,
  traceparent text
)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR UPDATE;
  RETURN QUERY
  SELECT r.*
  FROM {schema}.runs_of(
    ARRAY(SELECT e.id FROM {schema}.executions e WHERE e.owner = me AND e.kind = 'workflow' AND e.state = 'running'),
    {schema}.clock(), max_unread, max_unread_bytes
  ) r;
END
$$;

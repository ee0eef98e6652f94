-- Returns queues and tasks of executions that no worker runs at the moment: they have been due for some time, or their
-- owner is gone, and no live supervisor serves their lane.
CREATE OR REPLACE FUNCTION {schema}.unserved(wanted uuid[], since_millis double precision)
RETURNS TABLE (queue text, task text)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT DISTINCT e.queue::text, e.task::text
  FROM {schema}.executions e
  WHERE e.id = ANY (wanted)
    AND coalesce(e.claimed_at, e.run_at) <= {schema}.now() - since_millis * interval '1 millisecond'
    AND NOT EXISTS (
      SELECT 1
      FROM {schema}.supervisors v
      WHERE (e.lane = ANY (v.lanes) OR v.id = e.owner)
        AND {schema}.lease_end(v.expires_at, v.lease_millis) > {schema}.now()
    );
END
$$;

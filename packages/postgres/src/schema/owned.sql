-- Returns which of the given executions a supervisor owns, in the form in which `claim` returns them.
CREATE OR REPLACE FUNCTION {schema}.owned(me uuid, wanted uuid[]) RETURNS TABLE (
  id uuid, fence bigint, lane bigint, priority smallint, task text, queue text, payload text, format integer,
  attempt integer, losses integer, max_attempts integer, timeout_millis double precision, traceparent text,
  claimed_millis double precision, waited_millis double precision, run_seconds double precision, at_most_once boolean
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT e.id, e.fence::bigint, e.lane, e.priority::smallint, e.task::text, e.queue::text, e.payload::text,
    e.format::integer, e.attempts + 1, e.losses::integer, e.max_attempts::integer, e.timeout_millis::float8,
    e.traceparent::text, date_part('epoch', e.claimed_at) * 1000,
    (date_part('epoch', e.claimed_at) - date_part('epoch', e.run_at)) * 1000, date_part('epoch', e.run_at), e.at_most_once
  FROM {schema}.executions e
  WHERE e.id = ANY (wanted) AND e.owner IS NOT DISTINCT FROM me AND e.kind = 'task'
    AND e.state IN ('running', 'cancelling');
END
$$;

-- Leaves the process's name for executions that have not ended, and returns which those are. The lock lets claims pass
-- but makes an end wait. So the end finds the name, or has moved the execution to history before the caller looks
-- there.
--
-- Executions that another transaction holds for longer than a moment must not keep the others waiting. They are returned
-- without a name: `find_ended` finds their ends.
CREATE OR REPLACE FUNCTION {schema}.watch(process text, wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql
{pinned}
SET lock_timeout = '100ms'
AS $$
DECLARE
  open uuid[];
  held uuid[];
BEGIN
  BEGIN
    SELECT array_agg(l.id)
    INTO open
    FROM (SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) ORDER BY e.id FOR KEY SHARE) l;
  EXCEPTION
    WHEN lock_not_available THEN
      SELECT array_agg(l.id)
      INTO open
      FROM (SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) ORDER BY e.id FOR KEY SHARE SKIP LOCKED) l;
      SELECT array_agg(e.id)
      INTO held
      FROM {schema}.executions e
      WHERE e.id = ANY (wanted) AND e.id <> ALL (coalesce(open, '{}'));
  END;
  INSERT INTO {schema}.waiters (execution_id, process) SELECT o.id, watch.process FROM unnest(open) AS o(id)
  ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT unnest(open || held);
END
$$;

-- Leaves the process's name for executions that have not ended, and returns which those are. The lock lets claims pass
-- but makes an end wait. So the end finds the name, or has moved the execution to history before the caller looks
-- there.
CREATE OR REPLACE FUNCTION {schema}.watch(process text, wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  open uuid[];
BEGIN
  SELECT array_agg(l.id)
  INTO open
  FROM (SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) ORDER BY e.id FOR KEY SHARE) l;
  INSERT INTO {schema}.waiters (execution_id, process) SELECT o.id, watch.process FROM unnest(open) AS o(id)
  ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT unnest(open);
END
$$;

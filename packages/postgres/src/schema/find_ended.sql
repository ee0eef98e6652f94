-- Returns which of the given executions have ended. A process checks everything it awaits with it, now and then.
CREATE OR REPLACE FUNCTION {schema}.find_ended(wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE
{pinned}
AS $$
BEGIN
  PERFORM {schema}.require_primary();
  RETURN QUERY
  SELECT w.id
  FROM unnest(wanted) AS w(id)
  WHERE NOT EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.id = w.id);
END
$$;

-- Returns which of the given executions are to be cancelled. A message says so too, but any role can send one.
CREATE OR REPLACE FUNCTION {schema}.cancelling(wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE
{pinned}
AS $$
BEGIN
  RETURN QUERY SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) AND e.state = 'cancelling';
END
$$;

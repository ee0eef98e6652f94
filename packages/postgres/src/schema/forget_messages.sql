-- Deletes old messages to runs that were never started, and returns how many.
CREATE OR REPLACE FUNCTION {schema}.forget_messages(max_rows integer, age_millis double precision) RETURNS integer
LANGUAGE plpgsql
{safe}
AS $$
DECLARE
  forgotten integer;
BEGIN
  DELETE FROM {schema}.inbox b
  WHERE (b.run, b.id) IN (
    SELECT i.run, i.id
    FROM {schema}.inbox i
    WHERE i.at < {schema}.clock() - age_millis * interval '1 millisecond'
      AND NOT EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.id = i.run)
    LIMIT max_rows
  );
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;

-- Forgets tokens of batches that can no longer be repeated, and returns how many.
CREATE OR REPLACE FUNCTION {schema}.forget_batches(max_rows integer, age_millis double precision) RETURNS integer
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  forgotten integer;
BEGIN
  DELETE FROM {schema}.batches b
  WHERE b.id IN (
    SELECT o.id
    FROM {schema}.batches o
    WHERE o.written_at < {schema}.clock() - age_millis * interval '1 millisecond'
    ORDER BY o.written_at
    LIMIT max_rows
    FOR UPDATE SKIP LOCKED
  );
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;

-- Forgets expired idempotency keys, and returns how many.
CREATE OR REPLACE FUNCTION {schema}.forget_keys(max_rows integer) RETURNS integer
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  forgotten integer;
BEGIN
  DELETE FROM {schema}.keys k
  WHERE (k.scope, k.key) IN (
    SELECT o.scope, o.key
    FROM {schema}.keys o
    WHERE o.expires_at IS NOT NULL AND o.expires_at <= {schema}.clock()
    ORDER BY o.expires_at
    LIMIT max_rows
    FOR UPDATE SKIP LOCKED
  );
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;

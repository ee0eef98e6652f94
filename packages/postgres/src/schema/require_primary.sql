-- Fails on a standby. A standby may be behind, so that what was enqueued a moment ago would seem unknown. The error is
-- the one that a write would get there.
CREATE OR REPLACE FUNCTION {schema}.require_primary() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'this server is a standby: effect-ray needs the primary'
      USING ERRCODE = 'read_only_sql_transaction';
  END IF;
END
$$;

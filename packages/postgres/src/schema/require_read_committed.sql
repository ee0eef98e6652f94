-- Fails unless the transaction is at read committed. A statement that waits for another transaction must then see what
-- that one did. Under a database's default of repeatable read it would see the state from before, and leave executions
-- running under a supervisor that is gone.
CREATE OR REPLACE FUNCTION {schema}.require_read_committed() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION
      'effect-ray needs the isolation level read committed, but this session starts with "%"; for its role, run ALTER ROLE ... SET default_transaction_isolation = ''read committed''',
      current_setting('transaction_isolation')
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$$;

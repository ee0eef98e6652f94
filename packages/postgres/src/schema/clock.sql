-- The time of leases and records. It advances within a statement. Like now(), only the test kit replaces it.
CREATE OR REPLACE FUNCTION {schema}.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp();

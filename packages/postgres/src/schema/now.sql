-- The time by which rows are due. It does not advance within a statement, so it can serve an index condition. The
-- planner inlines it; only the test kit replaces it. Its body is not text, so it is parsed once, here, and no caller's
-- search_path can change its meaning.
CREATE OR REPLACE FUNCTION {schema}.now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN statement_timestamp();

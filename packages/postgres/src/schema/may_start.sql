-- Returns whether the time by which an execution must start still allows starting it. The planner inlines it.
CREATE OR REPLACE FUNCTION {schema}.may_start(start_by timestamptz, attempts integer, losses integer) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN start_by IS NULL OR attempts > 0 OR losses > 0 OR start_by > {schema}.now();

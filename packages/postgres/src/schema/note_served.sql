-- Records until when a supervisor serves these lanes. If it is not failing, the patience of failing ones starts again
-- then.
CREATE OR REPLACE FUNCTION {schema}.note_served(me uuid, lane_ids bigint[], until timestamptz) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  PERFORM 1
  FROM {schema}.holds o
  WHERE o.lane = ANY (lane_ids) AND o.failing_since < until
  ORDER BY o.supervisor, o.lane
  FOR UPDATE;
  UPDATE {schema}.holds o
  SET failing_since = until
  WHERE o.lane = ANY (lane_ids) AND o.failing_since < until AND NOT EXISTS (
    SELECT 1 FROM {schema}.holds f WHERE f.supervisor = me AND f.lane = o.lane AND f.failing_since IS NOT NULL
  );
END
$$;

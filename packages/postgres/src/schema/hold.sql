-- Records why a supervisor does not claim from lanes that it serves; NULL if it claims from them again. Records nothing
-- for a supervisor that is gone. Returns the lanes that are given up: every supervisor that served them during the last
-- `patience_millis`, including this one, was failing all that time.
CREATE OR REPLACE FUNCTION {schema}.hold(
  me uuid, lane_ids bigint[], reason text, failing boolean, patience_millis double precision
) RETURNS bigint[]
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  told timestamptz := {schema}.clock();
  past timestamptz := told - patience_millis * interval '1 millisecond';
BEGIN
  -- One that is gone has nothing to say about the others.
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN ARRAY[]::bigint[];
  END IF;
  IF reason IS NULL THEN
    DELETE FROM {schema}.holds o WHERE o.supervisor = me AND o.lane = ANY (lane_ids);
    RETURN ARRAY[]::bigint[];
  END IF;
  IF failing THEN
    PERFORM {schema}.note_served(me, lane_ids, told);
  END IF;
  INSERT INTO {schema}.holds AS o (supervisor, lane, reason, failing_since)
  SELECT me, l.id, hold.reason, CASE WHEN failing THEN told END
  FROM unnest(lane_ids) AS l(id)
  ON CONFLICT (supervisor, lane) DO UPDATE
  SET reason = excluded.reason, failing_since = CASE WHEN failing THEN coalesce(o.failing_since, told) END
  WHERE o.reason <> excluded.reason OR failing <> (o.failing_since IS NOT NULL);
  RETURN ARRAY(
    SELECT o.lane
    FROM {schema}.holds o
    WHERE o.supervisor = me AND o.lane = ANY (lane_ids) AND o.failing_since <= past AND NOT EXISTS (
      SELECT 1
      FROM {schema}.supervisors v
      WHERE o.lane = ANY (v.lanes) AND {schema}.lease_end(v.expires_at, v.lease_millis) > past AND NOT EXISTS (
        SELECT 1 FROM {schema}.holds f
        WHERE f.supervisor = v.id AND f.lane = o.lane AND f.failing_since IS NOT NULL
      )
    )
  );
END
$$;

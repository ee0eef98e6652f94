-- Says why a supervisor does not claim lanes that it serves; NULL when it claims them again. Of a supervisor that is gone
-- nothing is kept.
CREATE OR REPLACE FUNCTION {schema}.hold(me uuid, lane_ids bigint[], reason text) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  IF reason IS NULL THEN
    DELETE FROM {schema}.holds o WHERE o.supervisor = me AND o.lane = ANY (lane_ids);
  ELSE
    INSERT INTO {schema}.holds (supervisor, lane, reason)
    SELECT v.id, l.id, hold.reason
    FROM {schema}.supervisors v CROSS JOIN unnest(lane_ids) AS l(id)
    WHERE v.id = me
    FOR KEY SHARE OF v
    ON CONFLICT (supervisor, lane) DO UPDATE SET reason = excluded.reason;
  END IF;
END
$$;

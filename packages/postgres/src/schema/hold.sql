-- Says why a supervisor does not claim lanes that it serves; NULL when it claims them again. Of a supervisor that is gone
-- nothing is kept. Returns those of the lanes that every live supervisor which serves them has given up.
CREATE OR REPLACE FUNCTION {schema}.hold(me uuid, lane_ids bigint[], reason text, given_up boolean)
RETURNS bigint[]
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  IF reason IS NULL THEN
    DELETE FROM {schema}.holds o WHERE o.supervisor = me AND o.lane = ANY (lane_ids);
  ELSE
    INSERT INTO {schema}.holds AS o (supervisor, lane, reason, given_up)
    SELECT v.id, l.id, hold.reason, hold.given_up
    FROM {schema}.supervisors v CROSS JOIN unnest(lane_ids) AS l(id)
    WHERE v.id = me
    FOR KEY SHARE OF v
    ON CONFLICT (supervisor, lane) DO UPDATE SET reason = excluded.reason, given_up = excluded.given_up
    WHERE (o.reason, o.given_up) <> (excluded.reason, excluded.given_up);
  END IF;
  RETURN ARRAY(
    SELECT l.id
    FROM unnest(lane_ids) AS l(id)
    WHERE NOT EXISTS (
      SELECT 1
      FROM {schema}.supervisors v
      WHERE l.id = ANY (v.lanes) AND {schema}.lease_end(v.expires_at, v.lease_millis) > {schema}.now()
        AND NOT EXISTS (
          SELECT 1 FROM {schema}.holds o
          WHERE o.supervisor = v.id AND o.lane = l.id AND o.given_up
        )
    )
  );
END
$$;

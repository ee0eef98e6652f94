-- Says why a supervisor does not claim lanes that it serves; NULL when it claims them again. Of a supervisor that is gone
-- nothing is kept. Returns those of the lanes that every live supervisor which serves them has given up.
CREATE OR REPLACE FUNCTION {schema}.hold(
  me uuid, lane_ids bigint[], reason text,
  -- How a reason begins whose supervisor has given the lanes up; `given_up`: this one has.
  prefix text, given_up boolean
) RETURNS bigint[]
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  IF reason IS NULL THEN
    DELETE FROM {schema}.holds o WHERE o.supervisor = me AND o.lane = ANY (lane_ids);
  ELSE
    INSERT INTO {schema}.holds AS o (supervisor, lane, reason)
    SELECT v.id, l.id, CASE WHEN given_up THEN prefix ELSE '' END || hold.reason
    FROM {schema}.supervisors v CROSS JOIN unnest(lane_ids) AS l(id)
    WHERE v.id = me
    FOR KEY SHARE OF v
    ON CONFLICT (supervisor, lane) DO UPDATE SET reason = excluded.reason WHERE o.reason <> excluded.reason;
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
          WHERE o.supervisor = v.id AND o.lane = l.id AND starts_with(o.reason, prefix)
        )
    )
  );
END
$$;

-- Takes a duty's turn, unless it was taken within the interval. Of many supervisors that see the duty due, one does it.
CREATE OR REPLACE FUNCTION {schema}.take_turn(duty text, interval_millis double precision) RETURNS boolean
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  taken timestamptz := {schema}.clock();
BEGIN
  INSERT INTO {schema}.duties AS d (name, next_at)
  VALUES (duty, taken + interval_millis * interval '1 millisecond')
  ON CONFLICT (name) DO UPDATE SET next_at = excluded.next_at WHERE d.next_at <= taken;
  RETURN FOUND;
END
$$;

-- Returns entries of an open run's journal, from a position on: at least one if there are any, and as many as fit.
CREATE OR REPLACE FUNCTION {schema}.load_run(of_run uuid, after integer, max_rows integer, max_bytes bigint)
RETURNS TABLE (key text, outside boolean, value text, at_millis double precision)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT f.key, f.outside, f.value, f.at_millis
  FROM (
    SELECT j.key::text, j.outside, j.value::text, round(date_part('epoch', j.at) * 1000) AS at_millis, j.seq,
      sum(octet_length(j.value)) OVER (ORDER BY j.seq) - octet_length(j.value) AS bytes_before
    FROM {schema}.journal j
    WHERE j.run = of_run AND j.seq >= after
    ORDER BY j.seq
    LIMIT max_rows
  ) f
  WHERE f.bytes_before < max_bytes
  ORDER BY f.seq;
END
$$;

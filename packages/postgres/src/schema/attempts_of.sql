-- Returns the ended attempts of an execution: the earlier ones, and the last, which history keeps in its own row.
-- Results that do not fit one message are left out.
CREATE OR REPLACE FUNCTION {schema}.attempts_of(wanted uuid, max_rows integer, max_bytes bigint) RETURNS TABLE (
  fence bigint, attempt integer, outcome text, claimed_at timestamptz, ended_at timestamptz, result text,
  place text, confirmed boolean
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_primary();
  RETURN QUERY
  SELECT f.fence, f.attempt, f.outcome, f.claimed_at, f.ended_at, CASE WHEN f.before < max_bytes THEN f.result END,
    f.place, f.confirmed
  FROM (
    SELECT u.*, coalesce(
      sum(octet_length(u.result)) OVER (ORDER BY u.fence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
      SELECT a.fence::bigint, a.attempt, a.outcome, a.claimed_at::timestamptz, a.ended_at::timestamptz, a.result::text,
        a.place::text, a.confirmed
      FROM {schema}.attempts a
      WHERE a.execution_id = wanted
      UNION ALL
      SELECT h.fence::bigint, h.attempt, h.outcome, h.claimed_at::timestamptz, h.ended_at::timestamptz,
        CASE WHEN h.outcome <> 'cancelled' THEN h.result::text END, h.place, h.confirmed
      FROM {schema}.history h
      WHERE h.id = wanted AND h.outcome IS NOT NULL
      ORDER BY fence
      LIMIT max_rows
    ) u
  ) f
  ORDER BY f.fence;
END
$$;

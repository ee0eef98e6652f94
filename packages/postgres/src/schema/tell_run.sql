-- Returns what is known of a run, whether it is open or over; nothing for an unknown id. Its journal is returned as a JSON
-- array, from a position on, as many entries as fit, and whether there are more.
CREATE OR REPLACE FUNCTION {schema}.tell_run(wanted uuid, after integer, max_bytes bigint) RETURNS TABLE (
  name text, workflow text, payload text, format integer, link integer, started_millis double precision, entries text,
  more boolean
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_primary();
  RETURN QUERY
  WITH run AS MATERIALIZED (
    SELECT e.key::text, e.task::text, e.payload::text, e.format::integer, e.link::integer,
      coalesce(e.link_at, e.enqueued_at)::timestamptz AS began_at, NULL::text AS packed
    FROM {schema}.executions e
    WHERE e.id = wanted AND e.kind = 'workflow'
    UNION ALL
    SELECT h.key, h.task, h.payload, h.format, coalesce(h.link, 1), h.run_at::timestamptz, coalesce(h.journal, '[]')
    FROM {schema}.history h
    WHERE h.id = wanted AND h.kind = 'workflow'
  ), told AS MATERIALIZED (
    SELECT j.seq::integer AS seq,
      json_build_object('key', j.key, 'outside', j.outside, 'value', j.value, 'at', round(date_part('epoch', j.at) * 1000))::text
        AS entry
    FROM {schema}.journal j
    WHERE j.run = wanted AND j.seq >= after
    UNION ALL
    SELECT (p.ord - 1)::integer, p.entry::text
    FROM run r
    CROSS JOIN LATERAL json_array_elements(r.packed::json) WITH ORDINALITY AS p(entry, ord)
    WHERE r.packed IS NOT NULL AND p.ord > after
  ), sized AS MATERIALIZED (
    SELECT t.seq, t.entry, sum(octet_length(t.entry)) OVER (ORDER BY t.seq) - octet_length(t.entry) AS bytes_before
    FROM told t
  )
  SELECT r.key, r.task, r.payload, r.format, r.link, floor(date_part('epoch', r.began_at) * 1000),
    (SELECT '[' || coalesce(string_agg(z.entry, ',' ORDER BY z.seq), '') || ']' FROM sized z WHERE z.bytes_before < max_bytes),
    EXISTS (SELECT 1 FROM sized z WHERE z.bytes_before >= max_bytes)
  FROM run r;
END
$$;

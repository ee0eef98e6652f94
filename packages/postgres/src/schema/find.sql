-- Returns executions, whether they have ended or not. One statement reads both tables, so an execution that moves from
-- one to the other is in exactly one of them. What does not fit one message is marked as left out, to be read alone.
CREATE OR REPLACE FUNCTION {schema}.find(wanted uuid[], max_bytes bigint) RETURNS TABLE (
  id uuid, task text, queue text, state text, priority smallint, payload text, format integer, attempts integer,
  losses integer, fence bigint, tags jsonb, enqueued_at timestamptz, run_at timestamptz, ended_at timestamptz,
  held text, result text, left_out boolean
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_primary();
  RETURN QUERY
  SELECT f.id, f.task, f.queue, f.state, f.priority, CASE WHEN f.before < max_bytes THEN f.payload END, f.format,
    f.attempts, f.losses, f.fence, f.tags, f.enqueued_at, f.run_at, f.ended_at, f.held,
    CASE WHEN f.before < max_bytes THEN f.result END, f.before >= max_bytes
  FROM (
    SELECT u.*,
      coalesce(sum(u.bytes) OVER (ORDER BY u.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
      SELECT e.id, e.task::text, e.queue::text, e.state, e.priority::smallint, e.payload::text, e.format::integer,
        e.attempts::integer, e.losses::integer, e.fence::bigint, e.tags::jsonb, e.enqueued_at::timestamptz,
        e.run_at::timestamptz, NULL::timestamptz AS ended_at,
        CASE WHEN e.held IS NOT NULL THEN e.held::text WHEN e.state = 'queued' THEN coalesce(
          (
            SELECT CASE p.kind WHEN 'queue' THEN 'its queue is paused' ELSE 'its task is paused' END
            FROM {schema}.pauses p
            WHERE (p.kind, p.name) IN (('queue', e.queue::text), ('task', e.task::text))
            ORDER BY p.kind
            LIMIT 1
          ),
          (SELECT o.reason FROM {schema}.holds o WHERE o.lane = e.lane LIMIT 1)
        ) END AS held,
        NULL::text AS result, octet_length(e.payload) AS bytes
      FROM {schema}.executions e
      WHERE e.id = ANY (wanted)
      UNION ALL
      SELECT h.id, h.task, h.queue, h.state, h.priority, h.payload, h.format, h.attempts, h.losses, h.fence::bigint,
        h.tags, h.enqueued_at::timestamptz, h.run_at::timestamptz, h.ended_at::timestamptz, NULL::text, h.result::text,
        octet_length(h.payload) + octet_length(h.result)
      FROM {schema}.history h
      WHERE h.id = ANY (wanted)
    ) u
  ) f;
END
$$;

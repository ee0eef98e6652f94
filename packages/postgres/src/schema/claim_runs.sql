-- Claims runs: those that are queued and those that wait and whose time has come, or exactly the `wanted` ones, whether
-- their time has come or not. Returns them with the length of their journals and the messages in their inboxes.
--
-- Like `claim`, it does not wait for the disk.
CREATE OR REPLACE FUNCTION {schema}.claim_runs(
  me uuid, lane_ids bigint[], wanted uuid[], max_rows integer, max_bytes bigint, max_unread integer, max_unread_bytes bigint
) RETURNS TABLE (
  id uuid, name text, workflow text, payload text, format integer, fence bigint, link integer, length integer,
  unread text, started_millis double precision, expires_millis double precision, now_millis double precision,
  traceparent text
)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
DECLARE
  -- The end of the domain `fence`. A row with this fence cannot be claimed any more.
  max_fence CONSTANT bigint := 9007199254740991;
  -- When a run continues that waits for a message only.
  never CONSTANT timestamptz := '9999-12-31 00:00:00+00';
  claimed timestamptz := {schema}.clock();
  due_by timestamptz := {schema}.now();
  taken uuid[];
  worn uuid[];
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM 1
  FROM {schema}.supervisors v
  WHERE v.id = me AND {schema}.lease_end(v.expires_at, v.lease_millis) > claimed
  FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF wanted IS NULL THEN
    SELECT
      array_agg(f.id) FILTER (WHERE f.fence < max_fence AND f.bytes_before < max_bytes),
      array_agg(f.id) FILTER (WHERE f.fence >= max_fence)
    INTO taken, worn
    FROM (
      SELECT d.id, d.fence, sum(d.bytes) OVER (ORDER BY d.run_at, d.id) - d.bytes AS bytes_before
      FROM (
        SELECT c.id, c.run_at, c.fence, c.bytes
        FROM unnest(lane_ids) AS l(lane)
        CROSS JOIN LATERAL (
          SELECT e.id, e.run_at, e.fence, octet_length(e.payload) AS bytes
          FROM {schema}.executions e
          WHERE e.state = 'queued' AND e.lane = l.lane AND e.priority = 5 AND e.run_at <= due_by
          ORDER BY e.run_at, e.id
          LIMIT max_rows
          FOR NO KEY UPDATE SKIP LOCKED
        ) c
        UNION ALL
        SELECT c.id, c.run_at, c.fence, c.bytes
        FROM unnest(lane_ids) AS l(lane)
        CROSS JOIN LATERAL (
          SELECT e.id, e.run_at, e.fence, octet_length(e.payload) AS bytes
          FROM {schema}.executions e
          WHERE e.state = 'waiting' AND e.held IS NULL AND e.lane = l.lane AND e.run_at <= due_by
          ORDER BY e.run_at
          LIMIT max_rows
          FOR NO KEY UPDATE SKIP LOCKED
        ) c
        ORDER BY run_at, id
        LIMIT max_rows
      ) d
    ) f;
  ELSE
    SELECT
      array_agg(f.id) FILTER (WHERE f.fence < max_fence AND f.bytes_before < max_bytes),
      array_agg(f.id) FILTER (WHERE f.fence >= max_fence)
    INTO taken, worn
    FROM (
      SELECT d.id, d.fence, sum(d.bytes) OVER (ORDER BY d.id) - d.bytes AS bytes_before
      FROM (
        SELECT e.id, e.fence, octet_length(e.payload) AS bytes
        FROM {schema}.executions e
        WHERE e.id = ANY (wanted) AND e.kind = 'workflow' AND e.state IN ('queued', 'waiting') AND e.held IS NULL
        ORDER BY e.id
        LIMIT max_rows
        FOR NO KEY UPDATE SKIP LOCKED
      ) d
    ) f;
  END IF;
  -- Only rows changed by hand get there.
  IF worn IS NOT NULL THEN
    UPDATE {schema}.executions e
    SET state = 'waiting', held = 'its row cannot be read', run_at = never
    WHERE e.id = ANY (worn);
  END IF;
  UPDATE {schema}.executions e
  SET state = 'running', owner = me, fence = e.fence + 1, claimed_at = claimed, home = me
  WHERE e.id = ANY (taken);
  RETURN QUERY
  SELECT r.* FROM {schema}.runs_of(taken, claimed, max_unread, max_unread_bytes) r;
END
$$;

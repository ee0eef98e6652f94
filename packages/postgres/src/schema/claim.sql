-- Claims executions by lane and priority.
--
-- Each pair is one lookup in executions_to_claim, so rows of other lanes, of tasks that this build does not know and of
-- the future are never read. A first search counts the due rows of each pair, in the order of priority, then age. The
-- second locks exactly as many and skips rows that another claim holds. `floor_seconds` and `floor_ids` say where to
-- begin: earlier claims took everything before, but its dead entries stay in the index for as long as an old snapshot
-- is open. `min_waited_millis` is how long an execution must have been due.
CREATE OR REPLACE FUNCTION {schema}.claim(
  me uuid, lane_ids bigint[], priorities smallint[], floor_seconds double precision[], floor_ids uuid[],
  lane_limits integer[], max_rows integer, suspect_losses integer, max_bytes bigint,
  min_waited_millis double precision
) RETURNS TABLE (
  ord integer,
  id uuid, fence bigint, lane bigint, priority smallint, task text, queue text, payload text, format integer,
  attempt integer, losses integer, max_attempts integer, timeout_millis double precision, traceparent text,
  claimed_millis double precision, waited_millis double precision, run_seconds double precision, at_most_once boolean,
  is_left boolean
)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
DECLARE
  claimed timestamptz := {schema}.clock();
  due_by timestamptz := {schema}.now() - min_waited_millis * interval '1 millisecond';
  waits text := current_setting('synchronous_commit');
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM set_config('synchronous_commit', 'off', true);
  -- Held until this transaction ends: the reaper skips a supervisor whose claim is under way.
  PERFORM 1
  FROM {schema}.supervisors v
  WHERE v.id = me AND {schema}.lease_end(v.expires_at, v.lease_millis) > claimed
  FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  RETURN QUERY
  WITH due AS MATERIALIZED (
    SELECT d.lane, d.priority, d.floor_at, d.floor_id, count(*) AS n
    FROM (
      SELECT p.lane, p.priority, p.floor_at, p.floor_id
      FROM (
        SELECT f.lane, f.priority, f.floor_id, f.most, to_timestamp(f.seconds) AS floor_at
        FROM unnest(lane_ids, priorities, floor_seconds, floor_ids, lane_limits)
          AS f(lane, priority, seconds, floor_id, most)
      ) p
      CROSS JOIN LATERAL (
        SELECT e.run_at, e.id
        FROM {schema}.executions e
        WHERE e.state = 'queued' AND e.lane = p.lane AND e.priority = p.priority
          AND (e.run_at, e.id) >= (p.floor_at, p.floor_id) AND e.run_at <= due_by
          AND {schema}.may_start(e.start_by, e.attempts, e.losses)
        ORDER BY e.run_at, e.id
        LIMIT p.most
      ) c
      ORDER BY p.priority DESC, c.run_at, c.id
      LIMIT max_rows
    ) d
    GROUP BY d.lane, d.priority, d.floor_at, d.floor_id
  ),
  locked AS MATERIALIZED (
    SELECT c.at, c.losses, row_number() OVER found AS ord, sum(c.bytes) OVER found AS bytes
    FROM due d
    CROSS JOIN LATERAL (
      SELECT e.ctid AS at, e.id, e.losses, e.run_at, octet_length(e.payload) AS bytes
      FROM {schema}.executions e
      WHERE e.state = 'queued' AND e.lane = d.lane AND e.priority = d.priority
        AND (e.run_at, e.id) >= (d.floor_at, d.floor_id) AND e.run_at <= due_by
        AND {schema}.may_start(e.start_by, e.attempts, e.losses)
      ORDER BY e.run_at, e.id
      LIMIT d.n
      FOR NO KEY UPDATE SKIP LOCKED
    ) c
    WINDOW found AS (ORDER BY d.priority DESC, c.run_at, c.id)
  ),
  -- As much as fits one message. A suspect goes alone: either it is the first and only one, or only the rows before it
  -- are taken.
  chosen AS MATERIALIZED (
    SELECT l.at, l.ord
    FROM locked l
    WHERE l.ord = 1 OR (
      l.bytes <= max_bytes
      AND l.ord < coalesce((SELECT min(m.ord) FROM locked m WHERE m.losses >= suspect_losses), max_rows + 1)
    )
  ),
  taken AS (
    UPDATE {schema}.executions e
    SET state = 'running', owner = me, fence = e.fence + 1, claimed_at = claimed,
      deadline_at = claimed + e.timeout_millis * interval '1 millisecond'
    FROM chosen c
    -- By their physical position, which cannot change under the lock. A row that moved before it was locked is left for
    -- later.
    WHERE e.ctid = c.at
    RETURNING c.ord::integer,
      e.id, e.fence::bigint, e.lane, e.priority::smallint, e.task::text, e.queue::text, e.payload::text,
      e.format::integer, e.attempts + 1, e.losses::integer, e.max_attempts::integer, e.timeout_millis::float8,
      e.traceparent::text, date_part('epoch', claimed) * 1000,
      (date_part('epoch', claimed) - date_part('epoch', e.run_at)) * 1000, date_part('epoch', e.run_at),
      -- A claim need not be on disk before the attempt runs: if a crash of Postgres undoes the claim, the execution is
      -- queued and runs again. At-most-once executions must not run again, so their claims wait.
      CASE WHEN e.at_most_once THEN set_config('synchronous_commit', waits, true) IS NOT NULL ELSE false END
  )
  SELECT t.*, NULL::boolean FROM taken t
  UNION ALL
  -- Row 0: the supervisor is alive, the time, and whether due executions were left behind because another transaction
  -- holds them, a suspect goes alone, or the message is full.
  SELECT 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    date_part('epoch', claimed), NULL, coalesce((SELECT sum(d.n) FROM due d) > (SELECT count(*) FROM taken), false);
END
$$;

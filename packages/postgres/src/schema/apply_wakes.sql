-- Wakes runs that have messages, and gives runs that joined an execution its end. Each only after the commit of whoever
-- noted it: a run that is just about to wait either sees the message, or is found waiting here.
--
-- A run whose row another transaction holds stays noted.
CREATE OR REPLACE FUNCTION {schema}.apply_wakes(
  max_rows integer, run_queue text, release_keys text[],
  -- Processes that may have a run in memory, and those runs: two arrays of equal length.
  OUT homes text[],
  OUT ids uuid[],
  -- Whether runs are queued that no process has in memory.
  OUT is_queued boolean,
  OUT more boolean
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- How much longer than others the process that may have a run in memory has to claim it.
  home_ahead CONSTANT interval := interval '20 milliseconds';
  woken timestamptz := {schema}.clock();
  noted uuid[];
  joined uuid[];
  joining uuid[];
  open uuid[];
  locked uuid[];
  -- Homes whose leases have not lapsed.
  alive uuid[];
  taken integer;
BEGIN
  PERFORM {schema}.require_read_committed();
  -- What is lost with a crash of Postgres is noted still.
  PERFORM set_config('synchronous_commit', 'off', true);
  WITH gone AS (
    DELETE FROM {schema}.joins j
    WHERE j.ctid = ANY (ARRAY(SELECT x.ctid FROM {schema}.joins x LIMIT max_rows FOR UPDATE SKIP LOCKED))
    RETURNING j.execution_id, j.run
  )
  SELECT array_agg(g.execution_id), array_agg(g.run), count(*) INTO joined, joining, taken FROM gone g;
  IF taken > 0 THEN
    -- Whatever ends one of these waits until the run is among its waiters, or has filed it before.
    SELECT array_agg(l.id)
    INTO open
    FROM (SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (joined) ORDER BY e.id FOR KEY SHARE) l;
    INSERT INTO {schema}.waiters (execution_id, run)
    SELECT j.id, j.run FROM unnest(joined, joining) AS j(id, run) WHERE j.id = ANY (open)
    ON CONFLICT DO NOTHING;
    INSERT INTO {schema}.inbox (run, key, value, at)
    SELECT j.run, 'end:' || h.id, h.result, woken
    FROM unnest(joined, joining) AS j(id, run)
    JOIN {schema}.history h ON h.id = j.id;
    INSERT INTO {schema}.wakes (run)
    SELECT DISTINCT j.run FROM unnest(joined, joining) AS j(id, run) WHERE j.id = ANY (open) IS NOT TRUE;
    -- These wakes are for what this transaction has written.
    more := true;
    is_queued := false;
    RETURN;
  END IF;

  WITH gone AS (
    DELETE FROM {schema}.wakes w
    WHERE w.ctid = ANY (ARRAY(SELECT x.ctid FROM {schema}.wakes x LIMIT max_rows FOR UPDATE SKIP LOCKED))
    RETURNING w.run
  )
  SELECT array_agg(DISTINCT g.run), count(*) INTO noted, taken FROM gone g;
  more := taken = max_rows;
  is_queued := false;
  IF taken = 0 THEN
    RETURN;
  END IF;
  SELECT coalesce(array_agg(l.id), '{}')
  INTO locked
  FROM (
    SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (noted) ORDER BY e.id FOR NO KEY UPDATE SKIP LOCKED
  ) l;
  alive := ARRAY(
    SELECT v.id
    FROM {schema}.supervisors v
    WHERE v.process IS NOT NULL AND {schema}.lease_end(v.expires_at, v.lease_millis) > woken
      AND v.id IN (SELECT e.home FROM {schema}.executions e WHERE e.id = ANY (locked))
  );
  WITH moved AS (
    UPDATE {schema}.executions e
    SET state = 'queued', held = NULL,
      run_at = woken + CASE WHEN e.home = ANY (alive) THEN home_ahead ELSE interval '0' END
    WHERE e.id = ANY (locked) AND e.state = 'waiting' AND (
      e.held IS NULL
      OR EXISTS (SELECT 1 FROM {schema}.inbox i WHERE i.run = e.id AND i.key::text = ANY (release_keys))
    )
    RETURNING e.home
  )
  SELECT coalesce(bool_or(m.home = ANY (alive) IS NOT TRUE), false) INTO is_queued FROM moved m;
  SELECT array_agg(v.process::text), array_agg(e.id)
  INTO homes, ids
  FROM {schema}.executions e
  JOIN {schema}.supervisors v ON v.id = e.home
  WHERE e.id = ANY (locked) AND e.home = ANY (alive);
  IF cardinality(locked) < cardinality(noted) THEN
    INSERT INTO {schema}.wakes (run)
    SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (noted) AND e.id <> ALL (locked);
    -- Messages to runs that are over.
    DELETE FROM {schema}.inbox i
    WHERE i.run = ANY (noted) AND EXISTS (SELECT 1 FROM {schema}.runs r WHERE r.id = i.run)
      AND NOT EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.id = i.run);
  END IF;
END
$$;

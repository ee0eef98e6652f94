/** The SQL files of this folder. Written by `make format`: change the files. */

/** The version of this package. */
export const version = "0.0.0"

/** The text of each function, by its name. */
export const functions: Readonly<Record<string, string>> = {
  apply_wakes: `-- Wakes runs that have messages, and gives runs that joined an execution its end. Each only after the commit of whoever
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
`,
  attempts_of: `-- Returns the ended attempts of an execution: the earlier ones, and the last, which history keeps in its own row.
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
`,
  cancel: `-- Cancels an execution that has not started, or requests its worker to cancel it. Waits for a moment for an execution
-- that another transaction holds, then fails with lock_not_available.
CREATE OR REPLACE FUNCTION {schema}.cancel(
  wanted uuid, cancelled_result text,
  OUT answer text, OUT woken_processes text[], OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- How long it waits for an execution that another transaction holds. The caller tries again.
  lock_patience CONSTANT text := '50ms';
  ended timestamptz := {schema}.clock();
  found_state text;
  found_kind text;
  over uuid[];
  lock_timeout text := current_setting('lock_timeout');
BEGIN
  PERFORM set_config('lock_timeout', lock_patience, true);
  SELECT e.state, e.kind INTO found_state, found_kind FROM {schema}.executions e WHERE e.id = wanted FOR UPDATE;
  PERFORM set_config('lock_timeout', lock_timeout, true);
  IF found_state IS NULL THEN
    answer := 'TooLate';
    RETURN;
  END IF;
  IF found_kind = 'workflow' THEN
    -- Its owner interrupts it, when it has one: finalizers and compensations are steps of the run.
    INSERT INTO {schema}.inbox (run, key, value, at) VALUES (wanted, 'cancel', 'null', ended);
    INSERT INTO {schema}.wakes (run) VALUES (wanted);
    woken_processes := ARRAY['*'];
    woken_ids := ARRAY[wanted];
    answer := 'Requested';
    RETURN;
  END IF;
  IF found_state IN ('running', 'cancelling') THEN
    UPDATE {schema}.executions e SET state = 'cancelling' WHERE e.id = wanted AND e.state = 'running';
    answer := 'Requested';
    RETURN;
  END IF;
  WITH gone AS (
    DELETE FROM {schema}.executions e WHERE e.id = wanted RETURNING e.*
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      'cancelled', cancelled_result, NULL, NULL, e.attempts, e.losses, false, true, NULL, NULL
    FROM gone e
  )
  SELECT array_agg(g.id) INTO over FROM gone g;

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over) t;
  answer := 'Cancelled';
END
$$;
`,
  cancelling: `-- Returns which of the given executions are to be cancelled. A message says so too, but any role can send one.
CREATE OR REPLACE FUNCTION {schema}.cancelling(wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE
{pinned}
AS $$
BEGIN
  RETURN QUERY SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) AND e.state = 'cancelling';
END
$$;
`,
  claim: `-- Claims executions by lane and priority.
--
-- Each pair is one lookup in executions_to_claim, so rows of other lanes, of tasks that this build does not know and of
-- the future are never read. A first search counts the due rows of each pair, in the order of priority, then age. The
-- second locks exactly as many and skips rows that another claim holds. \`floor_seconds\` and \`floor_ids\` say where to
-- begin: earlier claims took everything before, but its dead entries stay in the index for as long as an old snapshot
-- is open. \`min_waited_millis\` is how long an execution must have been due.
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
`,
  claim_runs: `-- Claims runs: those that are queued and those that wait and whose time has come, or exactly the \`wanted\` ones, whether
-- their time has come or not. Returns them with the length of their journals and the messages in their inboxes.
--
-- Like \`claim\`, it does not wait for the disk.
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
  -- The end of the domain \`fence\`. A row with this fence cannot be claimed any more.
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
`,
  clock: `-- The time of leases and records. It advances within a statement. Like now(), only the test kit replaces it.
CREATE OR REPLACE FUNCTION {schema}.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp();
`,
  commit_runs: `-- Records what runs did: entries of their journals, the messages that these were, children, tasks and messages to send, and
-- what each run does next. All of a run's commit, or nothing.
--
-- It locks the runs first and looks at their inboxes then, in a statement of its own: a message whose commit it has not seen
-- finds the run waiting when its wake is applied. It locks no other runs; what concerns those is inserted.
--
-- The statement waits for a moment for rows that another transaction holds, then fails with lock_not_available. With
-- \`pass_locked\` it skips them. A commit that is repeated after a lost acknowledgement changes nothing.
CREATE OR REPLACE FUNCTION {schema}.commit_runs(
  me uuid, pass_locked boolean, max_unread integer, max_unread_bytes bigint, run_queue text,
  ids uuid[], fences bigint[], links integer[], lengths integer[], counts integer[],
  last_keys text[], nexts text[], results text[], journals text[],
  wake_millis double precision[], helds text[],
  -- Each belongs to the commit at this position, from 1.
  entry_ords integer[], entry_seqs integer[], entry_keys text[], entry_outside boolean[], entry_values text[],
  entry_millis double precision[],
  moved_ords integer[], moved_ids bigint[],
  carried_ords integer[], carried_seqs integer[], carried_keys text[], carried_values text[],
  carried_millis double precision[],
  child_ords integer[], child_ids uuid[], child_names text[], child_workflows text[], child_lanes bigint[],
  child_payloads text[], child_formats integer[], child_traceparents text[], child_timeouts double precision[],
  are_detached boolean[],
  task_ords integer[], task_ids uuid[], task_lanes bigint[], task_names text[], task_queues text[],
  task_priorities smallint[], task_payloads text[], task_formats integer[], task_delays double precision[],
  task_dues double precision[], task_attempts integer[], task_timeouts double precision[],
  task_start_delays double precision[], task_start_bys double precision[], task_once boolean[], task_tags text[],
  task_traceparents text[],
  sent_ords integer[], sent_runs uuid[], sent_keys text[], sent_values text[],
  -- For each commit: \`running\`, \`waiting\` or \`over\`, \`lost\` or \`locked\`.
  OUT states text[],
  -- The messages that are left in each inbox, see \`unread_of\`.
  OUT unreads text[],
  -- Processes that await runs that are over, and those runs: two arrays of equal length. The process \`*\` stands for runs
  -- to be woken.
  OUT woken_processes text[],
  OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- How long it waits for a row that another transaction holds.
  lock_patience CONSTANT text := '100ms';
  -- When a run continues that waits for a message only.
  never CONSTANT timestamptz := '9999-12-31 00:00:00+00';
  committed timestamptz := {schema}.clock();
  kept integer[];
  -- Those whose children, tasks and messages are to be stored: not those of a repeated commit.
  doing integer[];
  locked integer[] := '{}';
  waiting integer[];
  continued integer[];
  over integer[];
  fresh uuid[];
  has_wakes boolean := false;
BEGIN
  PERFORM {schema}.require_read_committed();
  IF pass_locked THEN
    WITH free AS MATERIALIZED (
      SELECT e.id
      FROM {schema}.executions e
      WHERE e.id = ANY (ids) AND e.owner IS NOT DISTINCT FROM me
      ORDER BY e.id
      FOR UPDATE SKIP LOCKED
    )
    SELECT coalesce(array_agg(i.ord::integer), '{}')
    INTO locked
    FROM unnest(ids, fences) WITH ORDINALITY AS i(id, fence, ord)
    JOIN {schema}.executions e ON e.id = i.id AND e.fence = i.fence AND e.owner IS NOT DISTINCT FROM me
    WHERE NOT EXISTS (SELECT 1 FROM free f WHERE f.id = i.id);
  ELSE
    PERFORM set_config('lock_timeout', lock_patience, true);
    PERFORM 1
    FROM {schema}.executions e
    WHERE e.id = ANY (ids) AND e.owner IS NOT DISTINCT FROM me
    ORDER BY e.id
    FOR UPDATE;
  END IF;
  -- A journal may have what the commit appends: then the commit is repeated, after a lost acknowledgement.
  SELECT
    coalesce(array_agg(i.ord::integer), '{}'),
    coalesce(array_agg(i.ord::integer) FILTER (WHERE coalesce(j.length, 0) = i.length), '{}')
  INTO kept, doing
  FROM unnest(ids, fences, links, lengths, counts, last_keys) WITH ORDINALITY
    AS i(id, fence, link, length, count, last_key, ord)
  JOIN {schema}.executions e
    ON e.id = i.id AND e.fence = i.fence AND e.link = i.link AND e.owner IS NOT DISTINCT FROM me
      AND e.state = 'running'
  LEFT JOIN LATERAL (
    SELECT l.seq + 1 AS length, l.key::text FROM {schema}.journal l WHERE l.run = i.id ORDER BY l.seq DESC LIMIT 1
  ) j ON true
  WHERE i.ord <> ALL (locked)
    AND (coalesce(j.length, 0) = i.length OR (j.length = i.length + i.count AND j.key = i.last_key));

  -- A run that is over at its first commit never has a journal here: it goes to history at once.
  IF cardinality(entry_ords) > 0 THEN
    INSERT INTO {schema}.journal (run, seq, key, outside, value, at)
    SELECT ids[i.ord], i.seq, i.key, i.outside, i.value, to_timestamp(i.millis / 1000)
    FROM unnest(entry_ords, entry_seqs, entry_keys, entry_outside, entry_values, entry_millis)
      AS i(ord, seq, key, outside, value, millis)
    WHERE i.ord = ANY (kept) AND journals[i.ord] IS NULL
    ON CONFLICT DO NOTHING;
  END IF;
  IF cardinality(moved_ords) > 0 THEN
    DELETE FROM {schema}.inbox b
    USING unnest(moved_ords, moved_ids) AS i(ord, id)
    WHERE i.ord = ANY (kept) AND b.run = ids[i.ord] AND b.id = i.id;
  END IF;

  IF cardinality(child_ords) > 0 THEN
    WITH made AS (
      INSERT INTO {schema}.runs (id)
      SELECT DISTINCT i.id
      FROM unnest(child_ords, child_ids) AS i(ord, id)
      WHERE i.ord = ANY (doing)
      ORDER BY i.id
      ON CONFLICT DO NOTHING
      RETURNING id
    )
    SELECT coalesce(array_agg(m.id), '{}') INTO fresh FROM made m;
    INSERT INTO {schema}.executions (
      id, kind, key, task, lane, queue, priority, payload, format, traceparent, enqueued_at, run_at, max_attempts,
      timeout_millis, at_most_once, expires_at
    )
    SELECT DISTINCT ON (i.id)
      i.id, 'workflow', i.name, i.workflow, i.lane, run_queue, 5, i.payload, i.format, i.traceparent, committed,
      committed, 1, 1, false, committed + i.timeout * interval '1 millisecond'
    FROM unnest(
      child_ids, child_names, child_workflows, child_lanes, child_payloads, child_formats, child_traceparents,
      child_timeouts
    ) AS i(id, name, workflow, lane, payload, format, traceparent, timeout)
    WHERE i.id = ANY (fresh);
    -- Nothing can end a child that this transaction has made. One that existed may just end: see \`apply_wakes\`.
    INSERT INTO {schema}.waiters (execution_id, run)
    SELECT DISTINCT i.id, ids[i.ord]
    FROM unnest(child_ords, child_ids, are_detached) AS i(ord, id, is_detached)
    WHERE i.ord = ANY (doing) AND NOT i.is_detached AND i.id = ANY (fresh)
    ON CONFLICT DO NOTHING;
    WITH known AS MATERIALIZED (
      SELECT DISTINCT i.id, ids[i.ord] AS run, EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.id = i.id) AS is_open
      FROM unnest(child_ords, child_ids, are_detached) AS i(ord, id, is_detached)
      WHERE i.ord = ANY (doing) AND NOT i.is_detached AND i.id <> ALL (fresh)
    ), told AS (
      INSERT INTO {schema}.inbox (run, key, value, at)
      SELECT k.run, 'end:' || h.id, h.result, committed
      FROM known k
      JOIN {schema}.history h ON h.id = k.id
      WHERE NOT k.is_open
        -- A commit without entries may be a repetition.
        AND NOT EXISTS (SELECT 1 FROM {schema}.inbox b WHERE b.run = k.run AND b.key::text = 'end:' || h.id)
    ), noted AS (
      INSERT INTO {schema}.joins (execution_id, run) SELECT k.id, k.run FROM known k WHERE k.is_open RETURNING run
    )
    SELECT count(*) > 0 INTO has_wakes FROM noted;
  END IF;

  IF cardinality(task_ords) > 0 THEN
    INSERT INTO {schema}.executions (
      id, lane, task, queue, priority, payload, format, enqueued_at, run_at, max_attempts, timeout_millis, start_by,
      at_most_once, tags, traceparent
    )
    SELECT
      i.id, i.lane, i.task, i.queue, i.priority, i.payload, i.format, committed,
      coalesce(to_timestamp(i.due / 1000), committed + i.delay * interval '1 millisecond'),
      i.max_attempts, i.timeout,
      coalesce(to_timestamp(i.start_by / 1000), committed + i.start_delay * interval '1 millisecond'),
      i.at_most_once, i.tags::jsonb, i.traceparent
    FROM unnest(
      task_ords, task_ids, task_lanes, task_names, task_queues, task_priorities, task_payloads, task_formats,
      task_delays, task_dues, task_attempts, task_timeouts, task_start_delays, task_start_bys, task_once, task_tags,
      task_traceparents
    ) AS i(
      ord, id, lane, task, queue, priority, payload, format, delay, due, max_attempts, timeout, start_delay, start_by,
      at_most_once, tags, traceparent
    )
    WHERE i.ord = ANY (doing);
    INSERT INTO {schema}.waiters (execution_id, run)
    SELECT i.id, ids[i.ord]
    FROM unnest(task_ords, task_ids) AS i(ord, id)
    WHERE i.ord = ANY (doing);
  END IF;

  IF cardinality(sent_ords) > 0 THEN
    PERFORM {schema}.send_messages(array_agg(i.run ORDER BY i.n), array_agg(i.key ORDER BY i.n), array_agg(i.value ORDER BY i.n))
    FROM unnest(sent_ords, sent_runs, sent_keys, sent_values) WITH ORDINALITY AS i(ord, run, key, value, n)
    WHERE i.ord = ANY (doing)
    HAVING count(*) > 0;
    has_wakes := true;
  END IF;

  SELECT
    array_agg(i.ord::integer) FILTER (
      WHERE i.next = 'waiting' AND NOT EXISTS (SELECT 1 FROM {schema}.inbox b WHERE b.run = i.id)
    ),
    array_agg(i.ord::integer) FILTER (WHERE i.next NOT IN ('running', 'waiting', 'continued')),
    array_agg(i.ord::integer) FILTER (WHERE i.next = 'continued')
  INTO waiting, over, continued
  FROM unnest(ids, nexts) WITH ORDINALITY AS i(id, next, ord)
  WHERE i.ord = ANY (kept);

  IF cardinality(waiting) > 0 THEN
    UPDATE {schema}.executions e
    SET state = 'waiting', owner = NULL, claimed_at = NULL, losses = 0, held = i.held,
      run_at = coalesce(to_timestamp(i.wake / 1000), never)
    FROM unnest(ids, wake_millis, helds) WITH ORDINALITY AS i(id, wake, held, ord)
    WHERE e.id = i.id AND i.ord = ANY (waiting);
  END IF;

  -- A run that makes progress is not what kills its workers.
  UPDATE {schema}.executions e
  SET losses = 0
  FROM unnest(ids) WITH ORDINALITY AS i(id, ord)
  WHERE e.id = i.id AND e.losses > 0 AND i.ord = ANY (kept);

  IF cardinality(continued) > 0 THEN
    -- The link is filed under an id of its own; the run keeps its row, its inbox and whatever waits for it.
    INSERT INTO {schema}.history (
      id, run, link, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format,
      priority, at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place, journal
    )
    SELECT
      gen_random_uuid(), e.id, e.link, committed, e.enqueued_at, coalesce(e.link_at, e.enqueued_at), e.claimed_at,
      e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format, e.priority, e.at_most_once, e.kind, e.retention,
      e.queue, e.task, e.payload, e.tags, e.traceparent, e.key, 'continued', '{"_tag":"Continued"}', NULL, NULL, 0,
      e.losses, true, true, e.owner, NULL, {schema}.packed_journal(e.id, false)
    FROM {schema}.executions e
    JOIN unnest(continued) AS c(ord) ON e.id = ids[c.ord];
    DELETE FROM {schema}.journal j USING unnest(continued) AS c(ord) WHERE j.run = ids[c.ord];
    INSERT INTO {schema}.journal (run, seq, key, outside, value, at)
    SELECT ids[i.ord], i.seq, i.key, true, i.value, to_timestamp(i.millis / 1000)
    FROM unnest(carried_ords, carried_seqs, carried_keys, carried_values, carried_millis)
      AS i(ord, seq, key, value, millis)
    WHERE i.ord = ANY (continued);
    UPDATE {schema}.executions e
    SET payload = i.result, link = e.link + 1, link_at = committed
    FROM unnest(ids, results) WITH ORDINALITY AS i(id, result, ord)
    WHERE e.id = i.id AND i.ord = ANY (continued);
  END IF;

  IF cardinality(over) > 0 THEN
    WITH gone AS (
      DELETE FROM {schema}.executions e
      USING unnest(ids, nexts, results, journals, lengths) WITH ORDINALITY
        AS i(id, next, result, journal, length, ord)
      WHERE e.id = i.id AND i.ord = ANY (over)
      RETURNING e.*, i.next, i.result, i.journal
    )
    INSERT INTO {schema}.history (
      id, link, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place, journal
    )
    SELECT
      e.id, e.link, committed, e.enqueued_at, coalesce(e.link_at, e.enqueued_at), e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts,
      e.format, e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent,
      e.key, e.next, e.result, NULL, NULL, 0, e.losses, true, true, e.owner, NULL,
      CASE
        WHEN e.journal IS NULL THEN {schema}.packed_journal(e.id, true)
        WHEN EXISTS (SELECT 1 FROM {schema}.inbox b WHERE b.run = e.id) THEN
          left(e.journal, -1) || CASE WHEN e.journal = '[]' THEN '' ELSE ',' END
            || substr({schema}.packed_journal(e.id, true), 2)
        ELSE e.journal
      END
    FROM gone e;
    DELETE FROM {schema}.journal j
    USING unnest(ids, journals) WITH ORDINALITY AS i(id, journal, ord)
    WHERE j.run = i.id AND i.journal IS NULL AND i.ord = ANY (over);
    DELETE FROM {schema}.inbox b USING unnest(ids) WITH ORDINALITY AS i(id, ord) WHERE b.run = i.id AND i.ord = ANY (over);
    SELECT t.woken_processes, t.woken_ids
    INTO woken_processes, woken_ids
    FROM {schema}.tell_waiters(ARRAY(SELECT ids[o.ord] FROM unnest(over) AS o(ord))) t;
  END IF;
  IF has_wakes THEN
    woken_processes := woken_processes || '*'::text;
    woken_ids := woken_ids || ids[1];
  END IF;

  SELECT
    array_agg(
      CASE
        WHEN i.ord = ANY (over) THEN 'over'
        WHEN i.ord = ANY (waiting) THEN 'waiting'
        WHEN i.ord = ANY (kept) THEN 'running'
        WHEN i.ord = ANY (locked) THEN 'locked'
        -- What this supervisor committed before, with its acknowledgement lost, is done.
        WHEN EXISTS (
          SELECT 1 FROM {schema}.executions e
          WHERE e.id = i.id AND e.fence = i.fence AND e.home = me AND e.state IN ('waiting', 'queued')
            AND i.next = 'waiting'
        ) THEN 'waiting'
        WHEN EXISTS (
          SELECT 1 FROM {schema}.executions e
          WHERE e.id = i.id AND e.fence = i.fence AND e.owner IS NOT DISTINCT FROM me AND e.link = i.link + 1
            AND i.next = 'continued'
        ) THEN 'running'
        WHEN EXISTS (
          SELECT 1 FROM {schema}.history h WHERE h.id = i.id AND h.fence = i.fence AND h.supervisor = me AND h.settled
        ) THEN 'over'
        ELSE 'lost'
      END
      ORDER BY i.ord
    ),
    array_agg(
      CASE
        WHEN i.ord = ANY (over) IS NOT TRUE AND (i.ord = ANY (kept) OR i.next IN ('waiting', 'continued'))
          THEN {schema}.unread_of(i.id, max_unread, max_unread_bytes)
      END
      ORDER BY i.ord
    )
  INTO states, unreads
  FROM unnest(ids, fences, links, nexts) WITH ORDINALITY AS i(id, fence, link, next, ord);
END
$$;
`,
  drop_past: `-- Drops the oldest partition of history past its class's retention, one part at a time, and returns whether there is
-- more to do at once. It first deletes the idempotency keys that name its executions, because a key must not name what
-- can no longer be read, and their earlier attempts; then it drops the partition.
--
-- Dropping needs a lock that every reader and writer of history blocks. It waits for a moment only, so that none waits
-- behind it for long, and the next turn tries again. DETACH ... CONCURRENTLY would wait less, but no function may run
-- it, and only the owner of the tables could.
CREATE OR REPLACE FUNCTION {schema}.drop_past(max_rows integer) RETURNS boolean
LANGUAGE plpgsql
{pinned}
SET timezone = 'GMT'
SET datestyle = 'ISO, YMD'
SET lock_timeout = '100ms'
AS $$
DECLARE
  past record;
  from_id uuid;
  last_id uuid;
BEGIN
  SELECT 'history_' || c.name AS parent, l.relname AS leaf
  INTO past
  FROM {schema}.retention_classes c
  JOIN pg_class p ON p.relnamespace = '{schema}'::regnamespace AND p.relname = 'history_' || c.name AND p.relkind = 'p'
  JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class l ON l.oid = i.inhrelid
  WHERE l.relname ~ ('^history_' || c.name || '_[0-9]{8}$')
    AND to_date(right(l.relname, 8), 'YYYYMMDD') + 1 <= clock_timestamp() - c.keep
  ORDER BY right(l.relname, 8)
  LIMIT 1;
  IF NOT FOUND THEN
    RETURN false;
  END IF;

  INSERT INTO {schema}.drops (leaf, after_id)
  VALUES (past.leaf, '00000000-0000-0000-0000-000000000000')
  ON CONFLICT (leaf) DO NOTHING;
  SELECT d.after_id INTO from_id FROM {schema}.drops d WHERE d.leaf = past.leaf FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN false;
  END IF;

  EXECUTE format(
    'WITH part AS MATERIALIZED (
       SELECT h.id, h.kind, h.fence, h.task, h.key FROM {schema}.%I h WHERE h.id > $1 ORDER BY h.id LIMIT $2
     ), keys AS (
       DELETE FROM {schema}.keys k USING part p
       WHERE p.key IS NOT NULL AND k.scope = p.task AND k.key = p.key AND k.execution_id = p.id
     ), attempts AS (
       DELETE FROM {schema}.attempts a USING part p WHERE p.fence > 1 AND a.execution_id = p.id
     ), runs AS (
       DELETE FROM {schema}.runs r USING part p WHERE p.kind = ''workflow'' AND r.id = p.id
     )
     SELECT p.id FROM part p ORDER BY p.id DESC LIMIT 1',
    past.leaf
  ) INTO last_id USING from_id, max_rows;
  IF last_id IS NOT NULL THEN
    UPDATE {schema}.drops d SET after_id = last_id WHERE d.leaf = past.leaf;
    RETURN true;
  END IF;

  EXECUTE format('ALTER TABLE {schema}.%I DETACH PARTITION {schema}.%I', past.parent, past.leaf);
  EXECUTE format('DROP TABLE {schema}.%I', past.leaf);
  DELETE FROM {schema}.drops d WHERE d.leaf = past.leaf;
  RETURN true;
EXCEPTION
  WHEN lock_not_available THEN
    RETURN false;
END
$$;
`,
  enqueue: `-- Stores executions without idempotency keys. A token makes the statement repeatable after a lost acknowledgement.
-- Inside the app's own transaction there is none.
CREATE OR REPLACE FUNCTION {schema}.enqueue(token uuid, channel text, message text,
  ids uuid[], lane_ids bigint[], tasks text[], queue_names text[], priorities smallint[], payloads text[],
  formats integer[], delays_millis double precision[], due_millis double precision[], attempt_limits integer[],
  timeouts_millis double precision[], start_delays_millis double precision[], start_by_millis double precision[],
  at_most_once_flags boolean[], tag_texts text[], traceparents text[]
) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  enqueued timestamptz := {schema}.clock();
BEGIN
  IF token IS NOT NULL THEN
    INSERT INTO {schema}.batches (id, written_at) VALUES (token, enqueued) ON CONFLICT (id) DO NOTHING;
    IF NOT FOUND THEN
      RETURN;
    END IF;
  END IF;

  INSERT INTO {schema}.executions (
    id, lane, task, queue, priority, payload, format, enqueued_at, run_at, max_attempts, timeout_millis, start_by,
    at_most_once, tags, traceparent
  )
  SELECT
    i.id, i.lane, i.task, i.queue, i.priority, i.payload, i.format, enqueued,
    coalesce(to_timestamp(i.due / 1000), enqueued + i.delay * interval '1 millisecond'),
    i.max_attempts, i.timeout,
    coalesce(to_timestamp(i.start_by / 1000), enqueued + i.start_delay * interval '1 millisecond'),
    i.at_most_once, i.tags::jsonb, i.traceparent
  FROM unnest(
    ids, lane_ids, tasks, queue_names, priorities, payloads, formats, delays_millis, due_millis, attempt_limits,
    timeouts_millis, start_delays_millis, start_by_millis, at_most_once_flags, tag_texts, traceparents
  ) AS i(
    id, lane, task, queue, priority, payload, format, delay, due, max_attempts,
    timeout, start_delay, start_by, at_most_once, tags, traceparent
  );
  IF message IS NOT NULL THEN
    PERFORM pg_notify(channel, message);
  END IF;
END
$$;
`,
  enqueue_keyed: `-- Stores executions of requests, of which at least one has an idempotency key. Returns, for every row with a key, which
-- execution has the key now and whether its payload is the same. A request with a different payload is left out as a
-- whole. No key occurs in two requests, or twice in one.
CREATE OR REPLACE FUNCTION {schema}.enqueue_keyed(
  token uuid, patience text, channel text, message text,
  ids uuid[], lane_ids bigint[], tasks text[], queue_names text[], priorities smallint[], payloads text[],
  formats integer[], delays_millis double precision[], due_millis double precision[], attempt_limits integer[],
  timeouts_millis double precision[], start_delays_millis double precision[], start_by_millis double precision[],
  at_most_once_flags boolean[], tag_texts text[], traceparents text[],
  calls integer[], idempotency_keys text[], digests uuid[], keep_millis double precision[]
) RETURNS TABLE (ord integer, holder uuid, same_payload boolean)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
DECLARE
  enqueued timestamptz := {schema}.clock();
  refused integer[];
  forgotten boolean;
BEGIN
  -- Another transaction may hold one of these keys, and other requests wait with this one.
  IF patience IS NOT NULL THEN
    PERFORM set_config('lock_timeout', patience, true);
  END IF;
  IF token IS NOT NULL THEN
    INSERT INTO {schema}.batches (id, written_at) VALUES (token, enqueued) ON CONFLICT (id) DO NOTHING;
  END IF;
  IF token IS NULL OR FOUND THEN
    LOOP
      -- In the order of the keys, so that two batches cannot wait for each other.
      INSERT INTO {schema}.keys (scope, key, execution_id, payload_digest, expires_at)
      SELECT i.task, i.key, i.id, i.digest, enqueued + i.keep * interval '1 millisecond'
      FROM unnest(tasks, idempotency_keys, ids, digests, keep_millis) AS i(task, key, id, digest, keep)
      WHERE i.key IS NOT NULL
      ORDER BY i.task, i.key
      ON CONFLICT (scope, key) DO NOTHING;

      -- Expired keys name another execution from now on. Locked in the same order.
      PERFORM 1
      FROM unnest(tasks, idempotency_keys) AS i(task, key)
      JOIN {schema}.keys k ON k.scope = i.task AND k.key = i.key
      WHERE k.expires_at <= enqueued
      ORDER BY k.scope, k.key
      FOR UPDATE OF k;

      UPDATE {schema}.keys k
      SET execution_id = i.id, payload_digest = i.digest, expires_at = enqueued + i.keep * interval '1 millisecond'
      FROM unnest(tasks, idempotency_keys, ids, digests, keep_millis) AS i(task, key, id, digest, keep)
      WHERE k.scope = i.task AND k.key = i.key AND k.expires_at <= enqueued;

      -- A duty may forget an expired key until a statement locks it.
      PERFORM 1
      FROM unnest(tasks, idempotency_keys) AS i(task, key)
      JOIN {schema}.keys k ON k.scope = i.task AND k.key = i.key
      WHERE k.expires_at IS NOT NULL
      ORDER BY k.scope, k.key
      FOR KEY SHARE OF k;

      SELECT
        coalesce(array_agg(DISTINCT i.call) FILTER (WHERE k.payload_digest <> i.digest), '{}'),
        bool_or(i.key IS NOT NULL AND k.key IS NULL)
      INTO refused, forgotten
      FROM unnest(tasks, idempotency_keys, digests, calls) AS i(task, key, digest, call)
      LEFT JOIN {schema}.keys k ON k.scope = i.task AND k.key = i.key;
      EXIT WHEN NOT forgotten;
    END LOOP;
    IF cardinality(refused) > 0 THEN
      DELETE FROM {schema}.keys k
      USING unnest(tasks, idempotency_keys, ids, calls) AS i(task, key, id, call)
      WHERE k.scope = i.task AND k.key = i.key AND k.execution_id = i.id AND i.call = ANY (refused);
    END IF;

    INSERT INTO {schema}.executions (
      id, lane, task, queue, priority, payload, format, enqueued_at, run_at, max_attempts, timeout_millis, start_by,
      at_most_once, tags, traceparent, key
    )
    SELECT
      i.id, i.lane, i.task, i.queue, i.priority, i.payload, i.format, enqueued,
      coalesce(to_timestamp(i.due / 1000), enqueued + i.delay * interval '1 millisecond'),
      i.max_attempts, i.timeout,
      coalesce(to_timestamp(i.start_by / 1000), enqueued + i.start_delay * interval '1 millisecond'),
      i.at_most_once, i.tags::jsonb, i.traceparent, i.key
    FROM unnest(
      ids, lane_ids, tasks, queue_names, priorities, payloads, formats, delays_millis, due_millis, attempt_limits,
      timeouts_millis, start_delays_millis, start_by_millis, at_most_once_flags, tag_texts, traceparents,
      calls, idempotency_keys
    ) AS i(
      id, lane, task, queue, priority, payload, format, delay, due, max_attempts,
      timeout, start_delay, start_by, at_most_once, tags, traceparent, call, key
    )
    LEFT JOIN {schema}.keys k ON k.scope = i.task AND k.key = i.key
    WHERE i.call <> ALL (refused) AND (i.key IS NULL OR k.execution_id = i.id);
    IF message IS NOT NULL THEN
      PERFORM pg_notify(channel, message);
    END IF;
  END IF;
  RETURN QUERY
  SELECT i.ord::integer, k.execution_id, k.payload_digest = i.digest
  FROM unnest(tasks, idempotency_keys, digests) WITH ORDINALITY AS i(task, key, digest, ord)
  JOIN {schema}.keys k ON k.scope = i.task AND k.key = i.key;
END
$$;
`,
  ensure_partitions: `-- Adds the partitions of history for today and the days ahead, and returns how many. Each is created separately and
-- then attached: creating it in place would wait for every reader and block the writers behind it.
--
-- The days are UTC, whatever the session's time zone and date style.
CREATE OR REPLACE FUNCTION {schema}.ensure_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql
{safe}
SET timezone = 'GMT'
SET datestyle = 'ISO, YMD'
-- The caller retries, so that no writer waits long behind it.
SET lock_timeout = '2s'
AS $$
DECLARE
  max_days_ahead CONSTANT integer := 30;
  class record;
  day timestamptz;
  leaf text;
  made integer := 0;
BEGIN
  FOR class IN
    -- If one class has no table, the others still get theirs.
    SELECT 'history_' || c.name AS parent
    FROM {schema}.retention_classes c
    JOIN pg_class t ON t.relnamespace = '{schema}'::regnamespace AND t.relname = 'history_' || c.name AND t.relkind = 'p'
    JOIN pg_inherits i ON i.inhrelid = t.oid AND i.inhparent = '{schema}.history'::regclass
    ORDER BY c.name
  LOOP
    FOR ahead IN 0..least(days_ahead, max_days_ahead) LOOP
      day := date_trunc('day', clock_timestamp()) + make_interval(days => ahead);
      leaf := format('%s_%s', class.parent, to_char(day, 'YYYYMMDD'));
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      -- One session at a time: the next one finds the partition. Unlike an advisory lock, a lock on the table also
      -- makes what others created visible to to_regclass. It is the lock that ATTACH takes; it blocks no reader or
      -- writer.
      EXECUTE format('LOCK TABLE {schema}.%I IN SHARE UPDATE EXCLUSIVE MODE', class.parent);
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      EXECUTE format(
        'CREATE TABLE {schema}.%I (
           LIKE {schema}.history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
           CONSTRAINT of_this_day CHECK (finished_at IS NOT NULL AND finished_at >= %L AND finished_at < %L)
         )',
        leaf, day, day + interval '1 day'
      );
      EXECUTE format(
        'ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
        class.parent, leaf, day, day + interval '1 day'
      );
      EXECUTE format('ALTER TABLE {schema}.%I DROP CONSTRAINT of_this_day', leaf);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;
`,
  expire: `-- Ends executions that have not begun by their \`startBy\`.
CREATE OR REPLACE FUNCTION {schema}.expire(
  max_rows integer, max_bytes bigint, expired_result text,
  OUT expired integer,
  OUT more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
  over uuid[];
BEGIN
  WITH gone AS (
    DELETE FROM {schema}.executions e
    WHERE e.id IN (
      SELECT l.id
      FROM (
        SELECT x.id, sum(x.bytes) OVER (ORDER BY x.start_by, x.id) - x.bytes AS bytes_before
        FROM (
          SELECT d.id, d.start_by, octet_length(d.payload) AS bytes
          FROM {schema}.executions d
          WHERE d.state = 'queued' AND d.attempts = 0 AND d.losses = 0 AND d.start_by IS NOT NULL
            AND d.start_by <= {schema}.now()
          ORDER BY d.start_by
          LIMIT max_rows
          FOR UPDATE SKIP LOCKED
        ) x
      ) l
      WHERE l.bytes_before < max_bytes
    )
    RETURNING e.*
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      'expired', expired_result, NULL, NULL, e.attempts, e.losses, false, true, NULL, NULL
    FROM gone e
  )
  SELECT array_agg(g.id), count(*) INTO over, expired FROM gone g;
  -- Rows that another transaction holds wait for a later turn.
  more := expired > 0 AND EXISTS (
    SELECT 1
    FROM {schema}.executions e
    WHERE e.state = 'queued' AND e.attempts = 0 AND e.losses = 0 AND e.start_by IS NOT NULL
      AND e.start_by <= {schema}.now()
  );

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over) t;
END
$$;
`,
  find: `-- Returns executions, whether they have ended or not. One statement reads both tables, so an execution that moves from
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
`,
  find_ended: `-- Returns which of the given executions have ended. A process checks everything it awaits with it, now and then.
CREATE OR REPLACE FUNCTION {schema}.find_ended(wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql STABLE
{pinned}
AS $$
BEGIN
  PERFORM {schema}.require_primary();
  RETURN QUERY
  SELECT w.id
  FROM unnest(wanted) AS w(id)
  WHERE NOT EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.id = w.id);
END
$$;
`,
  forget_batches: `-- Forgets tokens of batches that can no longer be repeated, and returns how many.
CREATE OR REPLACE FUNCTION {schema}.forget_batches(max_rows integer, age_millis double precision) RETURNS integer
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  forgotten integer;
BEGIN
  DELETE FROM {schema}.batches b
  WHERE b.id IN (
    SELECT o.id
    FROM {schema}.batches o
    WHERE o.written_at < {schema}.clock() - age_millis * interval '1 millisecond'
    ORDER BY o.written_at
    LIMIT max_rows
    FOR UPDATE SKIP LOCKED
  );
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;
`,
  forget_keys: `-- Forgets expired idempotency keys, and returns how many.
CREATE OR REPLACE FUNCTION {schema}.forget_keys(max_rows integer) RETURNS integer
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  forgotten integer;
BEGIN
  DELETE FROM {schema}.keys k
  WHERE (k.scope, k.key) IN (
    SELECT o.scope, o.key
    FROM {schema}.keys o
    WHERE o.expires_at IS NOT NULL AND o.expires_at <= {schema}.clock()
    ORDER BY o.expires_at
    LIMIT max_rows
    FOR UPDATE SKIP LOCKED
  );
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;
`,
  forget_messages: `-- Deletes old messages to runs that were never started, and returns how many.
CREATE OR REPLACE FUNCTION {schema}.forget_messages(max_rows integer, age_millis double precision) RETURNS integer
LANGUAGE plpgsql
{safe}
AS $$
DECLARE
  forgotten integer;
BEGIN
  DELETE FROM {schema}.inbox b
  WHERE (b.run, b.id) IN (
    SELECT i.run, i.id
    FROM {schema}.inbox i
    WHERE i.at < {schema}.clock() - age_millis * interval '1 millisecond'
      AND NOT EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.id = i.run)
    LIMIT max_rows
  );
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END
$$;
`,
  gateway_current: `-- Returns the newest gateway of a deployment on a cluster.
CREATE OR REPLACE FUNCTION {schema}.gateway_current(deployment text, cluster text) RETURNS TABLE (
  epoch integer, submission_id text, protocol integer, secret text, host text, port integer
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT g.epoch::integer, g.submission_id, g.protocol, g.secret, g.host, g.port
  FROM {schema}.gateways g
  WHERE g.deployment = gateway_current.deployment AND g.cluster = gateway_current.cluster
  ORDER BY g.epoch DESC
  LIMIT 1;
END
$$;
`,
  gateway_open: `-- Inserts a new gateway, unless another process has inserted this epoch or a later one, and returns whether it did.
-- Forgets older gateways, except for those whose workers may still be using them.
CREATE OR REPLACE FUNCTION {schema}.gateway_open(
  deployment text, cluster text, epoch integer, submission_id text, protocol integer, secret text, host text,
  port integer, kept_epochs integer
) RETURNS boolean
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  IF EXISTS (
    SELECT 1
    FROM {schema}.gateways g
    WHERE g.deployment = gateway_open.deployment AND g.cluster = gateway_open.cluster AND g.epoch >= gateway_open.epoch
  ) THEN
    RETURN false;
  END IF;
  DELETE FROM {schema}.gateways g
  WHERE g.deployment = gateway_open.deployment AND g.cluster = gateway_open.cluster
    AND g.epoch <= gateway_open.epoch - kept_epochs;
  INSERT INTO {schema}.gateways (deployment, cluster, epoch, submission_id, protocol, secret, host, port, opened_at)
  VALUES (
    gateway_open.deployment, gateway_open.cluster, gateway_open.epoch, gateway_open.submission_id,
    gateway_open.protocol, gateway_open.secret, gateway_open.host, gateway_open.port, {schema}.clock()
  )
  ON CONFLICT ON CONSTRAINT gateways_pkey DO NOTHING;
  RETURN FOUND;
END
$$;
`,
  gateway_publish: `-- Records where a gateway listens.
CREATE OR REPLACE FUNCTION {schema}.gateway_publish(
  deployment text, cluster text, epoch integer, host text, port integer
) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  UPDATE {schema}.gateways g
  SET host = gateway_publish.host, port = gateway_publish.port
  WHERE g.deployment = gateway_publish.deployment AND g.cluster = gateway_publish.cluster
    AND g.epoch = gateway_publish.epoch;
END
$$;
`,
  hold: `-- Records why a supervisor does not claim from lanes that it serves; NULL if it claims from them again. Records nothing
-- for a supervisor that is gone. Returns the lanes that are given up: every supervisor that served them during the last
-- \`patience_millis\`, including this one, was failing all that time.
CREATE OR REPLACE FUNCTION {schema}.hold(
  me uuid, lane_ids bigint[], reason text, failing boolean, patience_millis double precision
) RETURNS bigint[]
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  told timestamptz := {schema}.clock();
  past timestamptz := told - patience_millis * interval '1 millisecond';
BEGIN
  -- One that is gone has nothing to say about the others.
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN ARRAY[]::bigint[];
  END IF;
  IF reason IS NULL THEN
    DELETE FROM {schema}.holds o WHERE o.supervisor = me AND o.lane = ANY (lane_ids);
    RETURN ARRAY[]::bigint[];
  END IF;
  IF failing THEN
    PERFORM {schema}.note_served(me, lane_ids, told);
  END IF;
  INSERT INTO {schema}.holds AS o (supervisor, lane, reason, failing_since)
  SELECT me, l.id, hold.reason, CASE WHEN failing THEN told END
  FROM unnest(lane_ids) AS l(id)
  ON CONFLICT (supervisor, lane) DO UPDATE
  SET reason = excluded.reason, failing_since = CASE WHEN failing THEN coalesce(o.failing_since, told) END
  WHERE o.reason <> excluded.reason OR failing <> (o.failing_since IS NOT NULL);
  RETURN ARRAY(
    SELECT o.lane
    FROM {schema}.holds o
    WHERE o.supervisor = me AND o.lane = ANY (lane_ids) AND o.failing_since <= past AND NOT EXISTS (
      SELECT 1
      FROM {schema}.supervisors v
      WHERE o.lane = ANY (v.lanes) AND {schema}.lease_end(v.expires_at, v.lease_millis) > past AND NOT EXISTS (
        SELECT 1 FROM {schema}.holds f
        WHERE f.supervisor = v.id AND f.lane = o.lane AND f.failing_since IS NOT NULL
      )
    )
  );
END
$$;
`,
  lease_end: `-- Returns when a lease ends. While the server was down, no supervisor could renew its lease, so every lease begins anew
-- at the server's start. An outage longer than a lease then takes nothing from workers that are alive, and the others
-- lapse one lease later.
CREATE OR REPLACE FUNCTION {schema}.lease_end(expires_at timestamptz, lease_millis double precision) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN greatest(expires_at, pg_postmaster_start_time() + lease_millis * interval '1 millisecond');
`,
  load_run: `-- Returns entries of an open run's journal, from a position on: at least one if there are any, and as many as fit.
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
`,
  may_start: `-- Returns whether the time by which an execution must start still allows starting it. The planner inlines it.
CREATE OR REPLACE FUNCTION {schema}.may_start(start_by timestamptz, attempts integer, losses integer) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE
RETURN start_by IS NULL OR attempts > 0 OR losses > 0 OR start_by > {schema}.now();
`,
  note_lanes: `-- Records lanes for people to see. Leaves existing rows alone.
CREATE OR REPLACE FUNCTION {schema}.note_lanes(ids bigint[], queues text[], tasks text[]) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  INSERT INTO {schema}.lanes (id, queue, task, created_at)
  SELECT i.id, i.queue, i.task, {schema}.clock() FROM unnest(ids, queues, tasks) AS i(id, queue, task)
  ON CONFLICT DO NOTHING;
END
$$;
`,
  note_served: `-- Records until when a supervisor serves these lanes. If it is not failing, the patience of failing ones starts again
-- then.
CREATE OR REPLACE FUNCTION {schema}.note_served(me uuid, lane_ids bigint[], until timestamptz) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  PERFORM 1
  FROM {schema}.holds o
  WHERE o.lane = ANY (lane_ids) AND o.failing_since < until
  ORDER BY o.supervisor, o.lane
  FOR UPDATE;
  UPDATE {schema}.holds o
  SET failing_since = until
  WHERE o.lane = ANY (lane_ids) AND o.failing_since < until AND NOT EXISTS (
    SELECT 1 FROM {schema}.holds f WHERE f.supervisor = me AND f.lane = o.lane AND f.failing_since IS NOT NULL
  );
END
$$;
`,
  now: `-- The time by which rows are due. It does not advance within a statement, so it can serve an index condition. The
-- planner inlines it; only the test kit replaces it. Its body is not text, so it is parsed once, here, and no caller's
-- search_path can change its meaning.
CREATE OR REPLACE FUNCTION {schema}.now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN statement_timestamp();
`,
  owned: `-- Returns which of the given executions a supervisor owns, in the form in which \`claim\` returns them.
CREATE OR REPLACE FUNCTION {schema}.owned(me uuid, wanted uuid[]) RETURNS TABLE (
  id uuid, fence bigint, lane bigint, priority smallint, task text, queue text, payload text, format integer,
  attempt integer, losses integer, max_attempts integer, timeout_millis double precision, traceparent text,
  claimed_millis double precision, waited_millis double precision, run_seconds double precision, at_most_once boolean
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT e.id, e.fence::bigint, e.lane, e.priority::smallint, e.task::text, e.queue::text, e.payload::text,
    e.format::integer, e.attempts + 1, e.losses::integer, e.max_attempts::integer, e.timeout_millis::float8,
    e.traceparent::text, date_part('epoch', e.claimed_at) * 1000,
    (date_part('epoch', e.claimed_at) - date_part('epoch', e.run_at)) * 1000, date_part('epoch', e.run_at), e.at_most_once
  FROM {schema}.executions e
  WHERE e.id = ANY (wanted) AND e.owner IS NOT DISTINCT FROM me AND e.kind = 'task'
    AND e.state IN ('running', 'cancelling');
END
$$;
`,
  owned_ids: `-- Returns which executions a supervisor owns, and how large their payloads are. A claim of its own that was cut off may
-- still be running: the lock waits until it has ended, and the second statement sees what it took.
CREATE OR REPLACE FUNCTION {schema}.owned_ids(me uuid) RETURNS TABLE (id uuid, fence bigint, bytes integer)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR UPDATE;
  RETURN QUERY
  SELECT e.id, e.fence::bigint, octet_length(e.payload)
  FROM {schema}.executions e
  WHERE e.owner = me AND e.kind = 'task' AND e.state IN ('running', 'cancelling');
END
$$;
`,
  owned_runs: `-- Returns the runs that a supervisor owns, in the form in which \`claim_runs\` returns them. A claim of its own that was cut
-- off may still be running: the lock waits until it has ended, and the second statement sees what it took.
CREATE OR REPLACE FUNCTION {schema}.owned_runs(me uuid, max_unread integer, max_unread_bytes bigint) RETURNS TABLE (
  id uuid, name text, workflow text, payload text, format integer, fence bigint, link integer, length integer,
  unread text, started_millis double precision, expires_millis double precision, now_millis double precision,
  traceparent text
)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR UPDATE;
  RETURN QUERY
  SELECT r.*
  FROM {schema}.runs_of(
    ARRAY(SELECT e.id FROM {schema}.executions e WHERE e.owner = me AND e.kind = 'workflow' AND e.state = 'running'),
    {schema}.clock(), max_unread, max_unread_bytes
  ) r;
END
$$;
`,
  packed_journal: `-- Returns the journal of an open run as a JSON array, on request with the messages that it has not read at the end.
CREATE OR REPLACE FUNCTION {schema}.packed_journal(of_run uuid, with_unread boolean) RETURNS text
LANGUAGE sql STABLE
RETURN (
  SELECT '[' || coalesce(string_agg(p.entry, ',' ORDER BY p.is_unread, p.n), '') || ']'
  FROM (
    SELECT false AS is_unread, j.seq::bigint AS n,
      json_build_object('key', j.key, 'outside', j.outside, 'value', j.value, 'at', round(date_part('epoch', j.at) * 1000))::text
        AS entry
    FROM {schema}.journal j
    WHERE j.run = of_run
    UNION ALL
    SELECT true, i.id,
      json_build_object(
        'key', i.key, 'outside', true, 'value', i.value, 'at', floor(date_part('epoch', i.at) * 1000), 'unread', true
      )::text
    FROM {schema}.inbox i
    WHERE with_unread AND i.run = of_run
  ) p
);
`,
  pause: `-- Pauses a queue or a task. Returns false if it was already paused.
CREATE OR REPLACE FUNCTION {schema}.pause(kind text, name text) RETURNS boolean
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  INSERT INTO {schema}.pauses (kind, name, paused_at)
  VALUES (pause.kind, pause.name, {schema}.clock())
  ON CONFLICT ON CONSTRAINT pauses_pkey DO NOTHING;
  RETURN FOUND;
END
$$;
`,
  reap: `-- Takes executions back from supervisors whose leases have lapsed, and forgets supervisors that own nothing more.
CREATE OR REPLACE FUNCTION {schema}.reap(
  max_supervisors integer, max_rows integer, max_bytes bigint, max_losses integer, lost_result text,
  quarantined_result text, unconfirmed_result text,
  OUT taken integer,
  OUT more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  lapsed uuid[];
  -- Supervisors that own nothing more.
  idle uuid[];
BEGIN
  -- It locks the supervisors first, then searches for their executions. A claim that is running keeps its supervisor
  -- out of this; a later one waits and finds the lease lapsed. In no fixed order: supervisors whose executions another
  -- transaction holds stay, and must not take the place of the others each time.
  lapsed := ARRAY(
    SELECT v.id
    FROM {schema}.supervisors v
    WHERE {schema}.lease_end(v.expires_at, v.lease_millis) <= {schema}.clock()
    ORDER BY random()
    LIMIT max_supervisors
    FOR UPDATE SKIP LOCKED
  );
  SELECT r.taken, r.more, r.woken_processes, r.woken_ids, r.queues
  INTO taken, more, woken_processes, woken_ids, queues
  FROM {schema}.retake(
    lapsed, true, max_rows, max_bytes, max_losses, lost_result, quarantined_result, unconfirmed_result
  ) r;
  idle := ARRAY(
    SELECT l.id FROM unnest(lapsed) AS l(id)
    WHERE NOT EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.owner = l.id)
  );
  PERFORM {schema}.note_served(v.id, v.lanes, {schema}.lease_end(v.expires_at, v.lease_millis))
  FROM {schema}.supervisors v
  WHERE v.id = ANY (idle);
  DELETE FROM {schema}.supervisors v WHERE v.id = ANY (idle);
  more := more OR (cardinality(lapsed) = max_supervisors AND cardinality(idle) > 0);
END
$$;
`,
  reap_orphans: `-- Takes back executions whose owner is not a supervisor: a worker left before everything it owned was given back, or a
-- row was changed by hand.
CREATE OR REPLACE FUNCTION {schema}.reap_orphans(
  max_owners integer, max_rows integer, max_bytes bigint, max_losses integer, lost_result text,
  quarantined_result text, unconfirmed_result text,
  OUT taken integer,
  OUT more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  unknown uuid[];
BEGIN
  unknown := ARRAY(
    SELECT o.owner
    FROM (
      SELECT DISTINCT e.owner
      FROM {schema}.executions e
      WHERE e.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {schema}.supervisors v WHERE v.id = e.owner)
    ) o
    -- In no order, so that owners whose executions are locked keep no others from their turn.
    ORDER BY random()
    LIMIT max_owners
  );
  SELECT r.taken, r.more OR cardinality(unknown) = max_owners, r.woken_processes, r.woken_ids, r.queues
  INTO taken, more, woken_processes, woken_ids, queues
  FROM {schema}.retake(
    unknown, true, max_rows, max_bytes, max_losses, lost_result, quarantined_result, unconfirmed_result
  ) r;
END
$$;
`,
  register: `-- Starts a supervisor's lease. Repeating it after a lost acknowledgement changes nothing: only ticks renew a lease.
CREATE OR REPLACE FUNCTION {schema}.register(
  me uuid, label text, lane_ids bigint[], lease_millis double precision, in_process text
)
RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  registered timestamptz := {schema}.clock();
BEGIN
  INSERT INTO {schema}.supervisors (id, label, lanes, registered_at, lease_millis, expires_at, process)
  SELECT me, register.label, lane_ids, registered, register.lease_millis,
    registered + register.lease_millis * interval '1 millisecond', in_process
  ON CONFLICT (id) DO NOTHING;
END
$$;
`,
  require_primary: `-- Fails on a standby. A standby may be behind, so that what was enqueued a moment ago would seem unknown. The error is
-- the one that a write would get there.
CREATE OR REPLACE FUNCTION {schema}.require_primary() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'this server is a standby: effect-ray needs the primary'
      USING ERRCODE = 'read_only_sql_transaction';
  END IF;
END
$$;
`,
  require_read_committed: `-- Fails unless the transaction is at read committed. A statement that waits for another transaction must then see what
-- that one did. Under a database's default of repeatable read it would see the state from before, and leave executions
-- running under a supervisor that is gone.
CREATE OR REPLACE FUNCTION {schema}.require_read_committed() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION
      'effect-ray needs the isolation level read committed, but this session starts with "%"; for its role, run ALTER ROLE ... SET default_transaction_isolation = ''read committed''',
      current_setting('transaction_isolation')
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$$;
`,
  resume: `-- Resumes a queue or a task. Returns false if it was not paused.
CREATE OR REPLACE FUNCTION {schema}.resume(kind text, name text) RETURNS boolean
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  DELETE FROM {schema}.pauses p WHERE p.kind = resume.kind AND p.name = resume.name;
  RETURN FOUND;
END
$$;
`,
  retake: `-- Takes executions back from supervisors that are gone, up to a bound, and returns whether there is more to take at
-- once. The caller has locked or deleted the supervisors' rows before, in a separate statement, so that none of their
-- claims is running.
CREATE OR REPLACE FUNCTION {schema}.retake(
  owners uuid[], losing boolean, max_rows integer, max_bytes bigint, max_losses integer,
  lost_result text, quarantined_result text, cancelled_result text
) RETURNS TABLE (
  taken integer,
  more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  woken_processes text[],
  woken_ids uuid[],
  -- Queues that got an execution back.
  queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- The end of the domain \`fence\`. A row with this fence cannot be claimed any more, and is set aside.
  max_fence CONSTANT bigint := 9007199254740991;
  ended timestamptz := {schema}.clock();
  taking uuid[];
  over uuid[];
BEGIN
  PERFORM {schema}.require_read_committed();
  -- Rows that another transaction holds wait for a later turn.
  SELECT array_agg(l.id)
  INTO taking
  FROM (
    SELECT x.id, sum(x.bytes) OVER (ORDER BY x.id) - x.bytes AS bytes_before
    FROM (
      SELECT e.id, octet_length(e.payload) AS bytes
      FROM {schema}.executions e
      WHERE e.owner = ANY (owners)
      ORDER BY e.id
      LIMIT max_rows
      FOR UPDATE SKIP LOCKED
    ) x
  ) l
  WHERE l.bytes_before < max_bytes;
  WITH decided AS MATERIALIZED (
    SELECT e.*,
      CASE
        -- A run goes on where its journal ends.
        WHEN e.kind = 'workflow' THEN 'queued'
        WHEN e.state = 'cancelling' THEN 'cancelled'
        -- At-most-once: it may have run, however its owner left.
        WHEN e.at_most_once OR (losing AND e.losses + 1 >= max_losses) THEN 'lost'
        ELSE 'queued'
      END AS next,
      e.kind = 'workflow' AND losing AND e.losses + 1 >= max_losses AS is_held
    FROM {schema}.executions e
    WHERE e.id = ANY (taking) AND e.owner = ANY (owners)
  ), gone AS (
    DELETE FROM {schema}.executions e USING decided d WHERE e.id = d.id AND d.next <> 'queued'
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      e.next,
      CASE
        WHEN e.next = 'cancelled' THEN cancelled_result
        WHEN e.at_most_once THEN lost_result
        ELSE quarantined_result
      END,
      e.next, e.attempts + 1, e.attempts, e.losses + (losing AND e.next = 'lost')::integer,
      false, NOT losing AND e.next <> 'lost', e.owner, NULL
    FROM decided e
    WHERE e.next <> 'queued'
  ), noted AS (
    INSERT INTO {schema}.attempts (
      execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at, result, place
    )
    SELECT e.id, e.fence, e.attempts + 1, CASE WHEN losing THEN 'lost' ELSE 'released' END, e.owner, false, NOT losing,
      e.claimed_at, ended, CASE WHEN losing THEN lost_result END, NULL
    FROM decided e
    WHERE e.next = 'queued' AND e.kind = 'task'
    ON CONFLICT DO NOTHING
  ), back AS (
    UPDATE {schema}.executions e
    SET state = CASE WHEN d.is_held THEN 'waiting' ELSE 'queued' END, home = NULL,
      held = CASE WHEN d.is_held THEN d.losses + 1 || ' workers were lost while they ran it' END,
      -- It may have been claimed before its time.
      run_at = CASE WHEN d.kind = 'workflow' THEN ended ELSE e.run_at END,
      owner = NULL, fence = least(e.fence + 1, max_fence), claimed_at = NULL, deadline_at = NULL,
      losses = e.losses + losing::integer
    FROM decided d
    WHERE e.id = d.id AND d.next = 'queued'
  )
  SELECT
    count(*)::integer,
    array_agg(d.id) FILTER (WHERE d.next <> 'queued'),
    array_agg(DISTINCT d.queue) FILTER (WHERE d.next = 'queued')
  INTO taken, over, queues
  FROM decided d;

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over) t;
  more := taken > 0 AND EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.owner = ANY (owners));
  RETURN NEXT;
END
$$;
`,
  runs_of: `-- Returns runs that their caller owns, with the length of their journals and the messages in their inboxes.
CREATE OR REPLACE FUNCTION {schema}.runs_of(wanted uuid[], at timestamptz, max_unread integer, max_unread_bytes bigint) RETURNS TABLE (
  id uuid, name text, workflow text, payload text, format integer, fence bigint, link integer, length integer,
  unread text, started_millis double precision, expires_millis double precision, now_millis double precision,
  traceparent text
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT e.id, e.key::text, e.task::text, e.payload::text, e.format::integer, e.fence::bigint, e.link::integer,
    coalesce((SELECT j.seq + 1 FROM {schema}.journal j WHERE j.run = e.id ORDER BY j.seq DESC LIMIT 1), 0),
    {schema}.unread_of(e.id, max_unread, max_unread_bytes),
    floor(date_part('epoch', coalesce(e.link_at, e.enqueued_at)) * 1000), floor(date_part('epoch', e.expires_at) * 1000),
    floor(date_part('epoch', at) * 1000), e.traceparent::text
  FROM {schema}.executions e
  WHERE e.id = ANY (wanted);
END
$$;
`,
  send_messages: `-- Appends messages to inboxes, and notes which runs to wake when this has been committed. Locks nothing.
CREATE OR REPLACE FUNCTION {schema}.send_messages(runs uuid[], keys text[], message_values text[]) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  sent timestamptz := {schema}.clock();
BEGIN
  INSERT INTO {schema}.inbox (run, key, value, at)
  SELECT i.run, i.key, i.value, sent
  FROM unnest(runs, keys, message_values) WITH ORDINALITY AS i(run, key, value, ord)
  ORDER BY i.ord;
  INSERT INTO {schema}.wakes (run) SELECT DISTINCT i.run FROM unnest(runs) AS i(run);
END
$$;
`,
  set_aside: `-- For a claim that failed because of the content of a row. Tries each row that may be to blame, and ends as failed
-- those that cannot be claimed, or sent to the client. Their values can be anything, so history keeps what fits.
CREATE OR REPLACE FUNCTION {schema}.set_aside(
  me uuid, lane_ids bigint[], lane_limits integer[], max_rows integer, max_bytes bigint, unreadable_result text,
  OUT set_aside uuid[],
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  claimed timestamptz := {schema}.clock();
  ended timestamptz := claimed;
  candidates uuid[];
  candidate uuid;
  probe record;
  -- The bounds of the domain \`moment\`.
  earliest CONSTANT timestamptz := '0001-01-01 00:00:00+00';
  latest CONSTANT timestamptz := '200000-01-01 00:00:00+00';
BEGIN
  SELECT array_agg(d.id) INTO candidates
  FROM (
    SELECT c.id
    FROM unnest(lane_ids, lane_limits) AS l(lane, most)
    CROSS JOIN generate_series(0, 9) AS p(priority)
    CROSS JOIN LATERAL (
      SELECT e.id, e.run_at
      FROM {schema}.executions e
      WHERE e.state = 'queued' AND e.lane = l.lane AND e.priority = p.priority AND e.run_at <= {schema}.now()
        AND {schema}.may_start(e.start_by, e.attempts, e.losses)
      ORDER BY e.run_at, e.id
      LIMIT l.most
    ) c
    ORDER BY p.priority DESC, c.run_at, c.id
    LIMIT max_rows
  ) d;
  FOR candidate IN
    SELECT e.id FROM {schema}.executions e
    WHERE e.id = ANY (candidates) AND e.state = 'queued'
    ORDER BY e.id
    FOR UPDATE SKIP LOCKED
  LOOP
    BEGIN
      UPDATE {schema}.executions e
      SET state = 'running', owner = me, fence = e.fence + 1, claimed_at = claimed,
        deadline_at = claimed + e.timeout_millis * interval '1 millisecond'
      WHERE e.id = candidate
      RETURNING e.id, e.fence::bigint, e.lane, e.priority::smallint, e.task::text, e.queue::text, e.payload::text,
        e.format::integer, e.attempts + 1, e.losses::integer, e.max_attempts::integer, e.timeout_millis::float8,
        e.traceparent::text, date_part('epoch', claimed) * 1000,
        (date_part('epoch', claimed) - date_part('epoch', e.run_at)) * 1000, date_part('epoch', e.run_at)
      INTO probe;
      IF octet_length(probe.payload) > max_bytes THEN
        RAISE data_exception;
      END IF;
      RAISE SQLSTATE 'ERFIT';
    EXCEPTION
      -- It can be claimed, and stays as it was.
      WHEN SQLSTATE 'ERFIT' THEN NULL;
      WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
        WITH gone AS (
          DELETE FROM {schema}.executions e WHERE e.id = candidate RETURNING e.*
        )
        INSERT INTO {schema}.history (
          id, ended_at, enqueued_at, run_at, claimed_at,
          lane, fence, timeout_millis, max_attempts, format, priority, at_most_once, kind, retention, queue, task,
          payload, tags, traceparent, key,
          state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
        )
        SELECT
          e.id, ended, least(greatest(e.enqueued_at, earliest), latest), least(greatest(e.run_at, earliest), latest),
          CASE WHEN e.claimed_at IS NOT NULL THEN least(greatest(e.claimed_at, earliest), latest) END,
          e.lane, least(greatest(e.fence, 0), 9007199254740991), e.timeout_millis, e.max_attempts, e.format, e.priority,
          e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
          'failed', unreadable_result, NULL, NULL, e.attempts, e.losses, false, true, NULL, NULL
        FROM gone e;
        set_aside := set_aside || candidate;
    END;
  END LOOP;

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(set_aside) t;
END
$$;
`,
  settle: `-- Records how attempts ended. Each proposal meets the state of its row here, under the row's lock.
--
--   proposed                                   while running                              while cancelling
--   succeeded, failed, timed_out, lost_final   stands                                     stands
--   retry                                      queued, or failed when no attempt is left  cancelled
--   released                                   queued                                     cancelled, confirmed
--   returned                                   queued, with no attempt recorded           cancelled, confirmed
--   lost                                       queued                                     cancelled, unconfirmed
--   cancelled                                  cancelled                                  cancelled
--
-- \`flags\`: for a loss, whether it counts; for an attempt that was stopped, whether that is confirmed.
--
-- The statement waits for a moment for rows that another transaction holds, then fails with lock_not_available. With
-- \`pass_locked\` it skips them and settles the others.
CREATE OR REPLACE FUNCTION {schema}.settle(
  me uuid, ids uuid[], fences bigint[], kinds text[], results text[], delays_millis double precision[],
  flags boolean[], refs text[], cancelled_result text, unconfirmed_result text, pass_locked boolean,
  -- Positions of settlements whose executions this supervisor does not own.
  OUT lease_lost integer[],
  -- Positions of settlements that were skipped.
  OUT locked integer[],
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- The end of the domain \`fence\`. A row with this fence cannot be claimed any more, and is set aside.
  max_fence CONSTANT bigint := 9007199254740991;
  -- How long it waits for a row that another transaction holds.
  lock_patience CONSTANT text := '100ms';
  ended timestamptz := {schema}.clock();
  done bigint[];
  over uuid[];
  more bigint[];
  more_over uuid[];
BEGIN
  IF pass_locked THEN
    WITH free AS MATERIALIZED (
      SELECT e.id
      FROM {schema}.executions e
      WHERE e.id = ANY (ids) AND e.owner IS NOT DISTINCT FROM me
      ORDER BY e.id
      FOR UPDATE SKIP LOCKED
    ), given AS (
      SELECT i.id, i.ord::integer AS ord, e.id IS NOT NULL AND f.id IS NULL AS is_locked
      FROM unnest(ids, fences) WITH ORDINALITY AS i(id, fence, ord)
      LEFT JOIN {schema}.executions e ON e.id = i.id AND e.fence = i.fence AND e.owner IS NOT DISTINCT FROM me
      LEFT JOIN free f ON f.id = i.id
    )
    SELECT array_agg(CASE WHEN NOT g.is_locked THEN g.id END ORDER BY g.ord),
      coalesce(array_agg(g.ord ORDER BY g.ord) FILTER (WHERE g.is_locked), '{}')
    INTO ids, locked
    FROM given g;
  ELSE
    locked := '{}';
    PERFORM set_config('lock_timeout', lock_patience, true);
  END IF;

  -- Rows are found by their ids alone. \`IS NOT DISTINCT FROM\` keeps the index of owners out of the plan: under load it
  -- is full of dead entries, one for every row this supervisor ever owned, and each id would read them all. Every
  -- function locks in the order of ids, so that no two wait for each other. A batch of successes only is deleted in the
  -- order given, which is the order of ids. A mixed batch is locked as a whole first, so the second statement also sees
  -- what a cancellation left there.
  IF 'succeeded' <> ANY (kinds) THEN
    PERFORM 1
    FROM {schema}.executions e
    WHERE e.id = ANY (ids) AND e.owner IS NOT DISTINCT FROM me
    ORDER BY e.id
    FOR UPDATE;
  END IF;

  -- Success beats everything, so the row need not be read first. Nearly all settlements take this path.
  WITH gone AS (
    DELETE FROM {schema}.executions e
    USING unnest(ids, fences, kinds, results, refs) WITH ORDINALITY AS i(id, fence, kind, result, ref, ord)
    WHERE i.kind = 'succeeded' AND e.id = i.id AND e.fence = i.fence AND e.owner IS NOT DISTINCT FROM me
      AND e.kind = 'task'
    RETURNING e.*, i.result, i.ref, i.ord
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      'succeeded', e.result, 'succeeded', e.attempts + 1, e.attempts + 1, e.losses, true, true, e.owner, e.ref
    FROM gone e
  )
  SELECT array_agg(g.ord), array_agg(g.id) INTO done, over FROM gone g;
  IF cardinality(done) = cardinality(ids) THEN
    SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over) t;
    RETURN;
  END IF;

  -- The state of the row decides the rest.
  WITH decided AS MATERIALIZED (
    SELECT DISTINCT ON (e.id)
      e.*, i.kind AS proposed, i.result, i.delay, i.flag, i.ref, i.ord,
      CASE
        WHEN i.kind IN ('failed', 'timed_out') THEN 'failed'
        WHEN i.kind = 'lost_final' THEN 'lost'
        WHEN i.kind = 'cancelled' OR e.state = 'cancelling' THEN 'cancelled'
        WHEN i.kind = 'retry' AND e.attempts + 1 >= e.max_attempts THEN 'failed'
        ELSE 'queued'
      END AS next,
      CASE
        WHEN i.kind IN ('cancelled', 'timed_out', 'retry') THEN i.flag
        WHEN i.kind = 'lost' THEN e.state <> 'cancelling'
        ELSE true
      END AS confirmed
    FROM unnest(ids, fences, kinds, results, delays_millis, flags, refs) WITH ORDINALITY
      AS i(id, fence, kind, result, delay, flag, ref, ord)
    JOIN {schema}.executions e ON e.id = i.id AND e.fence = i.fence
    WHERE e.owner IS NOT DISTINCT FROM me AND e.kind = 'task' AND i.kind <> 'succeeded'
    ORDER BY e.id, i.ord
  ), gone AS (
    DELETE FROM {schema}.executions e USING decided d WHERE e.id = d.id AND d.next <> 'queued'
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      e.next,
      CASE WHEN e.next <> 'cancelled' THEN e.result WHEN e.confirmed THEN cancelled_result ELSE unconfirmed_result END,
      CASE WHEN e.next = 'failed' AND e.proposed = 'timed_out' THEN 'timed_out' ELSE e.next END,
      e.attempts + 1, e.attempts + (e.next = 'failed')::integer, e.losses + (e.next = 'lost' AND e.flag)::integer,
      true, e.confirmed, e.owner, e.ref
    FROM decided e
    WHERE e.next <> 'queued'
  ), noted AS (
    INSERT INTO {schema}.attempts (
      execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at, result, place
    )
    SELECT e.id, e.fence, e.attempts + 1, e.proposed, e.owner, true, e.confirmed, e.claimed_at, ended, e.result, e.ref
    FROM decided e
    WHERE e.next = 'queued' AND e.proposed <> 'returned'
    ON CONFLICT DO NOTHING
  ), back AS (
    UPDATE {schema}.executions e
    SET state = 'queued', owner = NULL, fence = least(e.fence + 1, max_fence), claimed_at = NULL, deadline_at = NULL,
      run_at = CASE WHEN d.proposed = 'retry' THEN ended + d.delay * interval '1 millisecond' ELSE e.run_at END,
      attempts = e.attempts + (d.proposed = 'retry')::integer,
      losses = e.losses + (d.proposed = 'lost' AND d.flag)::integer
    FROM decided d
    WHERE e.id = d.id AND d.next = 'queued'
  )
  SELECT
    array_agg(d.ord),
    array_agg(d.id) FILTER (WHERE d.next <> 'queued'),
    array_agg(DISTINCT d.queue) FILTER (WHERE d.next = 'queued' AND d.proposed <> 'retry')
  INTO more, more_over, queues
  FROM decided d;
  done := done || more;

  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(over || more_over) t;
  IF cardinality(done) = cardinality(ids) THEN
    RETURN;
  END IF;

  -- What this supervisor settled before, with its acknowledgement lost, is settled.
  lease_lost := ARRAY(
    SELECT i.ord::integer
    FROM unnest(ids, fences) WITH ORDINALITY AS i(id, fence, ord)
    WHERE NOT coalesce(i.ord = ANY (done), false) AND i.ord <> ALL (locked)
      AND NOT EXISTS (
        SELECT 1 FROM {schema}.history h WHERE h.id = i.id AND h.fence = i.fence AND h.supervisor = me AND h.settled
      )
      AND NOT EXISTS (
        SELECT 1 FROM {schema}.attempts a
        WHERE a.execution_id = i.id AND a.fence = i.fence AND a.supervisor = me AND a.settled
      )
  );
END
$$;
`,
  start_runs: `-- Stores runs whose ids are not known, and returns what became of each: \`owned\`, \`stored\` or \`exists\`. A run that is to be
-- owned belongs to the supervisor at once, if that is alive.
--
-- Messages are sent to their runs whether or not those are new.
CREATE OR REPLACE FUNCTION {schema}.start_runs(
  me uuid, ids uuid[], names text[], workflows text[], lane_ids bigint[], run_queue text,
  payloads text[], formats integer[], traceparents text[], timeouts_millis double precision[],
  are_owned boolean[],
  message_runs uuid[], message_keys text[], message_values text[],
  OUT started text[],
  OUT now_millis double precision
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  started_at timestamptz := {schema}.clock();
  is_alive boolean := false;
  fresh uuid[];
BEGIN
  PERFORM {schema}.require_read_committed();
  now_millis := floor(date_part('epoch', started_at) * 1000);
  IF me IS NOT NULL THEN
    -- Held until this transaction ends: the reaper skips a supervisor that is just getting a run.
    PERFORM 1
    FROM {schema}.supervisors v
    WHERE v.id = me AND {schema}.lease_end(v.expires_at, v.lease_millis) > started_at
    FOR KEY SHARE;
    is_alive := FOUND;
  END IF;
  WITH made AS (
    INSERT INTO {schema}.runs (id) SELECT DISTINCT i.id FROM unnest(ids) AS i(id) ORDER BY i.id
    ON CONFLICT DO NOTHING
    RETURNING id
  )
  SELECT coalesce(array_agg(m.id), '{}') INTO fresh FROM made m;
  INSERT INTO {schema}.executions (
    id, kind, key, task, lane, queue, priority, payload, format, traceparent, enqueued_at, run_at, max_attempts,
    timeout_millis, at_most_once, expires_at, state, owner, claimed_at, fence, home
  )
  SELECT DISTINCT ON (i.id)
    i.id, 'workflow', i.name, i.workflow, i.lane, run_queue, 5, i.payload, i.format, i.traceparent, started_at,
    started_at, 1, 1, false, started_at + i.timeout * interval '1 millisecond',
    CASE WHEN i.is_owned AND is_alive THEN 'running' ELSE 'queued' END,
    CASE WHEN i.is_owned AND is_alive THEN me END,
    CASE WHEN i.is_owned AND is_alive THEN started_at END,
    CASE WHEN i.is_owned AND is_alive THEN 1 ELSE 0 END,
    CASE WHEN i.is_owned AND is_alive THEN me END
  FROM unnest(ids, names, workflows, lane_ids, payloads, formats, traceparents, timeouts_millis, are_owned)
    AS i(id, name, workflow, lane, payload, format, traceparent, timeout, is_owned)
  WHERE i.id = ANY (fresh);
  started := ARRAY(
    SELECT CASE
      WHEN i.id = ANY (fresh) AND i.is_owned AND is_alive THEN 'owned'
      WHEN i.id = ANY (fresh) THEN 'stored'
      ELSE 'exists'
    END
    FROM unnest(ids, are_owned) WITH ORDINALITY AS i(id, is_owned, ord)
    ORDER BY i.ord
  );
  IF cardinality(message_runs) > 0 THEN
    PERFORM {schema}.send_messages(message_runs, message_keys, message_values);
  END IF;
END
$$;
`,
  take_turn: `-- Takes a duty's turn, unless it was taken within the interval. Of many supervisors that see the duty due, one does it.
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
`,
  tell: `-- Sends messages. They report what is already stored, so they need not wait for the disk. Sending is not a write, so a
-- server that takes no writes would accept it, but listeners on the server that does take writes would not receive it.
CREATE OR REPLACE FUNCTION {schema}.tell(channels text[], messages text[]) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  IF current_setting('transaction_read_only') = 'on' THEN
    RAISE EXCEPTION 'this server takes no writes' USING ERRCODE = 'read_only_sql_transaction';
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM pg_notify(n.channel, n.message) FROM unnest(channels, messages) AS n(channel, message);
END
$$;
`,
  tell_run: `-- Returns what is known of a run, whether it is open or over; nothing for an unknown id. Its journal is returned as a JSON
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
`,
  tell_waiters: `-- Tells those that wait for executions which have just been filed. Processes get a message, which the caller sends. Runs
-- get one in their inboxes, and a wake, which the caller applies after the commit.
CREATE OR REPLACE FUNCTION {schema}.tell_waiters(
  over uuid[],
  -- Processes that await executions, and those executions: two arrays of equal length. The process \`*\` stands for runs.
  OUT woken_processes text[],
  OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  -- As many as fit one message. The other processes find out by themselves, see \`find_ended\`.
  max_woken CONSTANT integer := 10000;
  told uuid[];
  ends uuid[];
BEGIN
  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id, w.run
  )
  SELECT
    (array_agg(g.process::text) FILTER (WHERE g.run IS NULL))[1:max_woken],
    (array_agg(g.execution_id) FILTER (WHERE g.run IS NULL))[1:max_woken],
    array_agg(g.run) FILTER (WHERE g.run IS NOT NULL),
    array_agg(g.execution_id) FILTER (WHERE g.run IS NOT NULL)
  INTO woken_processes, woken_ids, told, ends
  FROM gone g;
  IF told IS NULL THEN
    RETURN;
  END IF;
  INSERT INTO {schema}.inbox (run, key, value, at)
  SELECT t.run, 'end:' || h.id, h.result, h.ended_at
  FROM unnest(told, ends) AS t(run, id)
  -- They have been filed in this transaction, so only today's partition is read, or yesterday's.
  JOIN {schema}.history h ON h.id = t.id AND h.finished_at > statement_timestamp() - interval '1 day';
  INSERT INTO {schema}.wakes (run) SELECT DISTINCT t.run FROM unnest(told) AS t(run);
  woken_processes := woken_processes || '*'::text;
  woken_ids := woken_ids || ends[1];
END
$$;
`,
  terminate_run: `-- Ends a run at once, whoever owns it, and returns whether it was open. Its owner learns with its next commit that it has lost
-- the run. Waits for a moment for a run that another transaction holds, then fails with lock_not_available.
CREATE OR REPLACE FUNCTION {schema}.terminate_run(
  wanted uuid, terminated_result text,
  OUT was_open boolean,
  -- The process that may have it in memory.
  OUT home text,
  OUT woken_processes text[],
  OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
SET lock_timeout = '1s'
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM 1 FROM {schema}.executions e WHERE e.id = wanted AND e.kind = 'workflow' FOR UPDATE;
  was_open := FOUND;
  IF NOT was_open THEN
    RETURN;
  END IF;
  SELECT v.process::text
  INTO home
  FROM {schema}.executions e
  JOIN {schema}.supervisors v ON v.id = e.home
  WHERE e.id = wanted;
  WITH gone AS (
    DELETE FROM {schema}.executions e WHERE e.id = wanted RETURNING e.*
  )
  INSERT INTO {schema}.history (
    id, link, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
    at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
    state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place, journal
  )
  SELECT
    e.id, e.link, ended, e.enqueued_at, coalesce(e.link_at, e.enqueued_at), e.claimed_at, e.lane, e.fence,
    e.timeout_millis, e.max_attempts, e.format, e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task,
    e.payload, e.tags, e.traceparent, e.key, 'terminated', terminated_result, NULL, NULL, 0, e.losses, false, true,
    NULL, NULL, {schema}.packed_journal(e.id, true)
  FROM gone e;
  DELETE FROM {schema}.journal j WHERE j.run = wanted;
  DELETE FROM {schema}.inbox b WHERE b.run = wanted;
  SELECT t.woken_processes, t.woken_ids INTO woken_processes, woken_ids FROM {schema}.tell_waiters(ARRAY[wanted]) t;
END
$$;
`,
  tick: `-- Renews a supervisor's lease, and returns what it needs to know: which of its lanes are paused, what to cancel, when
-- the next execution of these lanes is due, which of its runs have messages, and which duties are due.
CREATE OR REPLACE FUNCTION {schema}.tick(
  me uuid, lease_millis double precision, lane_ids bigint[], duty_names text[],
  OUT alive boolean,
  OUT cancelling uuid[],
  OUT next_due_millis double precision,
  -- Workflow runs of this supervisor that have messages in their inboxes.
  OUT unread uuid[],
  -- The lanes that the supervisor serves: two arrays of equal length.
  OUT paused_queues text[],
  OUT paused_tasks text[],
  OUT due_duties text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  ticked timestamptz := {schema}.clock();
  served bigint[];
BEGIN
  -- A lapsed supervisor is never revived: its executions may have other owners already.
  UPDATE {schema}.supervisors v
  SET lease_millis = tick.lease_millis, expires_at = ticked + tick.lease_millis * interval '1 millisecond'
  WHERE v.id = me AND {schema}.lease_end(v.expires_at, v.lease_millis) > ticked
  RETURNING v.lanes INTO served;
  alive := FOUND;

  IF EXISTS (SELECT 1 FROM {schema}.pauses) THEN
    SELECT array_agg(l.queue::text), array_agg(l.task::text)
    INTO paused_queues, paused_tasks
    FROM {schema}.lanes l
    WHERE l.id = ANY (served) AND EXISTS (
      SELECT 1
      FROM {schema}.pauses p
      WHERE (p.kind, p.name) IN (('queue', l.queue), ('task', l.task))
    );
  END IF;

  SELECT array_agg(e.id) INTO cancelling FROM {schema}.executions e WHERE e.owner = me AND e.state = 'cancelling';

  SELECT (date_part('epoch', min(d.run_at)) - date_part('epoch', {schema}.now())) * 1000
  INTO next_due_millis
  FROM unnest(lane_ids) AS l(lane)
  CROSS JOIN generate_series(0, 9) AS p(priority)
  CROSS JOIN LATERAL (
    SELECT e.run_at
    FROM {schema}.executions e
    WHERE e.state = 'queued' AND e.lane = l.lane AND e.priority = p.priority
      AND {schema}.may_start(e.start_by, e.attempts, e.losses)
    ORDER BY e.run_at, e.id
    LIMIT 1
  ) d;
  SELECT least(
    next_due_millis,
    (date_part('epoch', min(d.run_at)) - date_part('epoch', {schema}.now())) * 1000
  )
  INTO next_due_millis
  FROM unnest(lane_ids) AS l(lane)
  CROSS JOIN LATERAL (
    SELECT e.run_at
    FROM {schema}.executions e
    WHERE e.state = 'waiting' AND e.held IS NULL AND e.lane = l.lane
      -- The others wait for a message only.
      AND e.run_at < '9999-01-01 00:00:00+00'
    ORDER BY e.run_at
    LIMIT 1
  ) d;

  IF EXISTS (SELECT 1 FROM {schema}.inbox) THEN
    SELECT array_agg(e.id)
    INTO unread
    FROM {schema}.executions e
    WHERE e.owner = me AND e.kind = 'workflow' AND EXISTS (SELECT 1 FROM {schema}.inbox i WHERE i.run = e.id);
  END IF;

  -- Some duties are due only when there is something to do, so that an idle queue costs one statement a tick.
  SELECT array_agg(n.name)
  INTO due_duties
  FROM unnest(duty_names) AS n(name)
  WHERE NOT EXISTS (SELECT 1 FROM {schema}.duties d WHERE d.name = n.name AND d.next_at > ticked)
    AND CASE n.name
      WHEN 'reap' THEN EXISTS (
        SELECT 1 FROM {schema}.supervisors v WHERE {schema}.lease_end(v.expires_at, v.lease_millis) <= ticked
      )
      WHEN 'expire' THEN EXISTS (
        SELECT 1
        FROM {schema}.executions e
        WHERE e.state = 'queued' AND e.attempts = 0 AND e.losses = 0 AND e.start_by IS NOT NULL
          AND e.start_by <= {schema}.now()
      )
      WHEN 'wake' THEN EXISTS (SELECT 1 FROM {schema}.wakes) OR EXISTS (SELECT 1 FROM {schema}.joins)
      ELSE true
    END;
END
$$;
`,
  unread_of: `-- Returns the oldest messages in a run's inbox as a JSON array of [id, key, value, millis]; null if there are none. Values
-- that make it too long are left out, as null: see \`values_of\`.
CREATE OR REPLACE FUNCTION {schema}.unread_of(of_run uuid, max_unread integer, max_bytes bigint) RETURNS text
LANGUAGE sql STABLE
RETURN (
  SELECT json_agg(
    json_build_array(i.id, i.key, CASE WHEN i.bytes <= max_bytes THEN i.value END, floor(date_part('epoch', i.at) * 1000))
    ORDER BY i.id
  )::text
  FROM (
    SELECT m.*, sum(octet_length(m.value)) OVER (ORDER BY m.id) AS bytes
    FROM (SELECT b.* FROM {schema}.inbox b WHERE b.run = of_run ORDER BY b.id LIMIT max_unread) m
  ) i
);
`,
  unregister: `-- Ends a supervisor's lease in order: what it still owns goes back, and nothing counts as lost. Call it again while
-- there is more, and after a moment if nothing was taken, because another transaction holds the rows.
CREATE OR REPLACE FUNCTION {schema}.unregister(
  me uuid, max_rows integer, max_bytes bigint, lost_result text, cancelled_result text,
  OUT taken integer,
  OUT more boolean,
  -- Processes that await executions that have ended, and those executions: two arrays of equal length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  -- Waits for a claim that is running.
  PERFORM 1 FROM {schema}.supervisors v WHERE v.id = me FOR UPDATE;
  SELECT r.taken, r.woken_processes, r.woken_ids, r.queues
  INTO taken, woken_processes, woken_ids, queues
  FROM {schema}.retake(ARRAY[me], false, max_rows, max_bytes, 0, lost_result, NULL, cancelled_result) r;
  more := EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.owner = me);
  IF NOT more THEN
    PERFORM {schema}.note_served(v.id, v.lanes, {schema}.clock()) FROM {schema}.supervisors v WHERE v.id = me;
    DELETE FROM {schema}.supervisors v WHERE v.id = me;
  END IF;
END
$$;
`,
  unserved: `-- Returns queues and tasks of executions that no worker runs at the moment: they have been due for some time, or their
-- owner is gone, and no live supervisor serves their lane.
CREATE OR REPLACE FUNCTION {schema}.unserved(wanted uuid[], since_millis double precision)
RETURNS TABLE (queue text, task text)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT DISTINCT e.queue::text, e.task::text
  FROM {schema}.executions e
  WHERE e.id = ANY (wanted)
    AND coalesce(e.claimed_at, e.run_at) <= {schema}.now() - since_millis * interval '1 millisecond'
    AND NOT EXISTS (
      SELECT 1
      FROM {schema}.supervisors v
      WHERE (e.lane = ANY (v.lanes) OR v.id = e.owner)
        AND {schema}.lease_end(v.expires_at, v.lease_millis) > {schema}.now()
    );
END
$$;
`,
  values_of: `-- Returns messages of a run's inbox whole, one a row.
CREATE OR REPLACE FUNCTION {schema}.values_of(of_run uuid, wanted bigint[]) RETURNS TABLE (id bigint, value text)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT b.id, b.value::text FROM {schema}.inbox b WHERE b.run = of_run AND b.id = ANY (wanted);
END
$$;
`,
  watch: `-- Leaves the process's name for executions that have not ended, and returns which those are. The lock lets claims pass
-- but makes an end wait. So the end finds the name, or has moved the execution to history before the caller looks
-- there.
--
-- Executions that another transaction holds for longer than a moment must not keep the others waiting. They are returned
-- without a name: \`find_ended\` finds their ends.
CREATE OR REPLACE FUNCTION {schema}.watch(process text, wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql
{pinned}
SET lock_timeout = '100ms'
AS $$
DECLARE
  open uuid[];
  held uuid[];
BEGIN
  BEGIN
    SELECT array_agg(l.id)
    INTO open
    FROM (SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) ORDER BY e.id FOR KEY SHARE) l;
  EXCEPTION
    WHEN lock_not_available THEN
      SELECT array_agg(l.id)
      INTO open
      FROM (SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) ORDER BY e.id FOR KEY SHARE SKIP LOCKED) l;
      SELECT array_agg(e.id)
      INTO held
      FROM {schema}.executions e
      WHERE e.id = ANY (wanted) AND e.id <> ALL (coalesce(open, '{}'));
  END;
  INSERT INTO {schema}.waiters (execution_id, process) SELECT o.id, watch.process FROM unnest(open) AS o(id)
  ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT unnest(open || held);
END
$$;
`
}

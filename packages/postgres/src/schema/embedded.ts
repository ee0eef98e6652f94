/** The SQL files of this folder. Written by `make format`: change the files. */

/** The version of this package. */
export const version = "0.0.0"

/** The text of each function, by its name. */
export const functions: Readonly<Record<string, string>> = {
  attempts_of: `-- Reads the ended attempts of an execution: the earlier ones, and the last, which history keeps in its own row. Results
-- beyond what a message carries are left out.
CREATE OR REPLACE FUNCTION {schema}.attempts_of(wanted uuid, max_rows integer, max_bytes bigint) RETURNS TABLE (
  fence bigint, attempt integer, outcome text, claimed_at timestamptz, ended_at timestamptz, result text,
  runner_ref text, confirmed boolean
)
LANGUAGE plpgsql STABLE
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  PERFORM {schema}.require_primary();
  RETURN QUERY
  SELECT f.fence, f.attempt, f.outcome, f.claimed_at, f.ended_at, CASE WHEN f.before < max_bytes THEN f.result END,
    f.runner_ref, f.confirmed
  FROM (
    SELECT u.*, coalesce(
      sum(octet_length(u.result)) OVER (ORDER BY u.fence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM (
      SELECT a.fence::bigint, a.attempt, a.outcome, a.claimed_at::timestamptz, a.ended_at::timestamptz, a.result::text,
        a.runner_ref::text, a.confirmed
      FROM {schema}.attempts a
      WHERE a.execution_id = wanted
      UNION ALL
      SELECT h.fence::bigint, h.attempt, h.outcome, h.claimed_at::timestamptz, h.ended_at::timestamptz,
        CASE WHEN h.outcome <> 'cancelled' THEN h.result::text END, h.runner_ref, h.confirmed
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
  cancel: `-- Cancels an execution that has not started, or asks its worker to cancel it.
CREATE OR REPLACE FUNCTION {schema}.cancel(
  wanted uuid, cancelled_result text,
  OUT answer text, OUT woken_processes text[], OUT woken_ids uuid[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
  found_state text;
  over uuid[];
BEGIN
  SELECT e.state INTO found_state FROM {schema}.executions e WHERE e.id = wanted FOR UPDATE;
  IF found_state IS NULL THEN
    answer := 'TooLate';
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
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      'cancelled', cancelled_result, NULL, NULL, e.attempts, e.losses, false, true, NULL, NULL
    FROM gone e
  )
  SELECT array_agg(g.id) INTO over FROM gone g;

  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id
  )
  SELECT array_agg(g.process::text), array_agg(g.execution_id) INTO woken_processes, woken_ids FROM gone g;
  answer := 'Cancelled';
END
$$;
`,
  cancelling: `-- Which of the executions wanted are to be cancelled. A message says so, but any role can send one.
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
-- Each pair is one look into executions_to_claim, so rows of other lanes, of tasks that this build does not know and of
-- the future are never read. A first look counts what each pair has to give, in the order of priority, then age. The
-- second locks exactly that many and passes over what another claim holds. \`floor_seconds\` and \`floor_ids\` say where to
-- begin: what lies before was taken by earlier claims and may still be in the index, dead, for as long as an old
-- snapshot is open.
CREATE OR REPLACE FUNCTION {schema}.claim(
  me uuid, lane_ids bigint[], priorities smallint[], floor_seconds double precision[], floor_ids uuid[],
  lane_limits integer[], max_rows integer, suspect_losses integer, max_bytes bigint
) RETURNS TABLE (
  ord integer,
  id uuid, fence bigint, lane bigint, priority smallint, task text, queue text, payload text, format integer,
  attempt integer, losses integer, max_attempts integer, timeout_millis double precision, traceparent text,
  claimed_millis double precision, waited_millis double precision, run_seconds double precision, at_most_once boolean,
  more boolean
)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
DECLARE
  claimed timestamptz := {schema}.clock();
  waits text := current_setting('synchronous_commit');
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM set_config('synchronous_commit', 'off', true);
  -- Held until this transaction ends: the reaper passes over a supervisor whose claim is under way.
  PERFORM 1
  FROM {schema}.supervisors v
  WHERE v.id = me AND {schema}.lease_end(v.expires_at, v.lease_millis) > claimed
  FOR KEY SHARE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  -- The first row, numbered 0, says that the supervisor lives, and what time it is.
  ord := 0;
  run_seconds := date_part('epoch', claimed);
  RETURN NEXT;
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
          AND (e.run_at, e.id) >= (p.floor_at, p.floor_id) AND e.run_at <= {schema}.now()
          AND (e.start_by IS NULL OR e.attempts > 0 OR e.losses > 0 OR e.start_by > {schema}.now())
        ORDER BY e.run_at, e.id
        LIMIT p.most
      ) c
      ORDER BY p.priority DESC, c.run_at, c.id
      LIMIT max_rows
    ) d
    GROUP BY d.lane, d.priority, d.floor_at, d.floor_id
  ),
  locked AS MATERIALIZED (
    SELECT c.place, c.losses, row_number() OVER found AS ord, sum(c.bytes) OVER found AS bytes
    FROM due d
    CROSS JOIN LATERAL (
      SELECT e.ctid AS place, e.id, e.losses, e.run_at, octet_length(e.payload) AS bytes
      FROM {schema}.executions e
      WHERE e.state = 'queued' AND e.lane = d.lane AND e.priority = d.priority
        AND (e.run_at, e.id) >= (d.floor_at, d.floor_id) AND e.run_at <= {schema}.now()
        AND (e.start_by IS NULL OR e.attempts > 0 OR e.losses > 0 OR e.start_by > {schema}.now())
      ORDER BY e.run_at, e.id
      LIMIT d.n
      FOR NO KEY UPDATE SKIP LOCKED
    ) c
    WINDOW found AS (ORDER BY d.priority DESC, c.run_at, c.id)
  ),
  -- As much as one message should carry. A suspect goes alone: either it is the first and the only one, or what comes
  -- before it is taken.
  chosen AS MATERIALIZED (
    SELECT l.place, l.ord
    FROM locked l
    WHERE l.ord = 1 OR (
      l.bytes <= max_bytes
      AND l.ord < coalesce((SELECT min(m.ord) FROM locked m WHERE m.losses >= suspect_losses), max_rows + 1)
    )
  )
  UPDATE {schema}.executions e
  SET state = 'running', owner = me, fence = e.fence + 1, claimed_at = claimed,
    deadline_at = claimed + e.timeout_millis * interval '1 millisecond'
  FROM chosen c
  -- By their place, which cannot change under the lock. One that moved before it was locked is left for later.
  WHERE e.ctid = c.place
  RETURNING c.ord::integer,
    e.id, e.fence::bigint, e.lane, e.priority::smallint, e.task::text, e.queue::text, e.payload::text,
    e.format::integer, e.attempts + 1, e.losses::integer, e.max_attempts::integer, e.timeout_millis::float8,
    e.traceparent::text, date_part('epoch', claimed) * 1000,
    (date_part('epoch', claimed) - date_part('epoch', e.run_at)) * 1000, date_part('epoch', e.run_at),
    -- Who runs it need not be on the disk before it runs: a claim that a crash of Postgres undoes leaves the execution
    -- queued, to be run again. Not so where it must never run again.
    CASE WHEN e.at_most_once THEN set_config('synchronous_commit', waits, true) IS NOT NULL ELSE false END,
    (SELECT count(*) FROM locked) > (SELECT count(*) FROM chosen);
END
$$;
`,
  clock: `-- The time of leases and records. It moves within a statement. Like now(), only the test kit replaces it.
CREATE OR REPLACE FUNCTION {schema}.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp();
`,
  enqueue: `-- Stores executions without idempotency keys. A token makes the call repeatable after a lost acknowledgement; there is
-- none inside the app's own transaction.
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
  enqueue_keyed: `-- Stores executions of calls in which at least one has an idempotency key. Returns, for every row with a key, which
-- execution holds the key now and whether its payload is the same. A call with a payload that differs is left out as a
-- whole. No key occurs in two calls, nor twice in one.
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
  -- Another transaction may hold one of these keys, and the calls of others wait with it.
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

      -- Those that have expired name another execution now. Locked in the same order.
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

      -- A tick may forget a key whose time is over, until somebody holds it.
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
  ensure_partitions: `-- Makes the partitions of history for today and the days ahead, and returns how many. Each is made beside the table and
-- attached: making it in place would wait for every reader and hold up the writers behind it.
CREATE OR REPLACE FUNCTION {schema}.ensure_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql
{safe}
SET lock_timeout = '2s'
AS $$
DECLARE
  class record;
  day timestamp;
  leaf text;
  made integer := 0;
BEGIN
  FOR class IN SELECT c.name FROM {schema}.retention_classes c ORDER BY c.name LOOP
    -- A class that nobody has made a table for is no reason to make none for the others.
    CONTINUE WHEN to_regclass(format('{schema}.%I', 'history_' || class.name)) IS NULL;
    FOR ahead IN 0..least(days_ahead, 30) LOOP
      day := date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(days => ahead);
      leaf := format('history_%s_%s', class.name, to_char(day, 'YYYYMMDD'));
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      -- One maker at a time; whoever waited finds it made. A lock on the table also makes what others made visible to
      -- to_regclass, which an advisory lock does not. It is the one that ATTACH takes; readers and writers pass.
      EXECUTE format('LOCK TABLE {schema}.%I IN SHARE UPDATE EXCLUSIVE MODE', 'history_' || class.name);
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      EXECUTE format(
        'CREATE TABLE {schema}.%I (
           LIKE {schema}.history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
           CONSTRAINT of_this_day CHECK (
             finished_at IS NOT NULL AND finished_at >= %L::timestamptz AND finished_at < %L::timestamptz)
         )',
        leaf, day AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC'
      );
      EXECUTE format(
        'ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
        'history_' || class.name, leaf, day AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC'
      );
      EXECUTE format('ALTER TABLE {schema}.%I DROP CONSTRAINT of_this_day', leaf);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;
`,
  find: `-- Reads executions, open and over. One statement over both tables: an execution that moves from one to the other is in
-- exactly one of them. What a message cannot carry together with the others is marked as left out, to be read alone.
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
        CASE WHEN e.state = 'queued' THEN (SELECT o.reason FROM {schema}.holds o WHERE o.lane = e.lane LIMIT 1) END AS held,
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
  find_ended: `-- Which of the executions wanted are over. A process asks this now and then about all that it awaits.
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
  hold: `-- Says why a supervisor does not claim lanes that it serves; NULL when it claims them again. Of a supervisor that is gone
-- nothing is kept. Returns those of the lanes that every live supervisor which serves them has given up.
CREATE OR REPLACE FUNCTION {schema}.hold(
  me uuid, lane_ids bigint[], reason text,
  -- How a reason begins whose supervisor has given the lanes up; \`given_up\`: this one has.
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
`,
  lease_end: `-- When a lease ends. While the server was down, no supervisor could renew its lease, so every lease begins anew at the
-- server's start: an outage longer than a lease takes nothing from workers that are alive, and the others lapse one
-- lease after it.
CREATE OR REPLACE FUNCTION {schema}.lease_end(expires_at timestamptz, lease_millis double precision) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN greatest(expires_at, pg_postmaster_start_time() + lease_millis * interval '1 millisecond');
`,
  note_lanes: `-- Notes lanes for people to see. Rows that are there are left alone.
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
  now: `-- The time by which rows are due. It does not move within a statement, so it can serve an index condition. The planner
-- inlines it; only the test kit replaces it. Its body is not text, so it is read once, here, and no caller's search_path
-- can change what it means.
CREATE OR REPLACE FUNCTION {schema}.now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
RETURN statement_timestamp();
`,
  owned: `-- What a supervisor holds of the executions wanted, as \`claim\` returns it.
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
  WHERE e.id = ANY (wanted) AND e.owner IS NOT DISTINCT FROM me AND e.state IN ('running', 'cancelling');
END
$$;
`,
  owned_ids: `-- What a supervisor holds: which executions, and how much there is to carry. A claim of its own that was cut off may
-- still be under way: the lock waits until it has ended, and the second statement sees what it took.
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
  WHERE e.owner = me AND e.state IN ('running', 'cancelling');
END
$$;
`,
  register: `-- Begins a supervisor's lease. The same again, after a lost acknowledgement, changes nothing: only ticks renew a lease.
CREATE OR REPLACE FUNCTION {schema}.register(me uuid, label text, lane_ids bigint[], lease_millis double precision)
RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  registered timestamptz := {schema}.clock();
BEGIN
  INSERT INTO {schema}.supervisors (id, label, lanes, registered_at, lease_millis, expires_at)
  SELECT me, register.label, lane_ids, registered, register.lease_millis,
    registered + register.lease_millis * interval '1 millisecond'
  ON CONFLICT (id) DO NOTHING;
END
$$;
`,
  require_primary: `-- Fails on a standby. Only where rows are written is it known what they hold: a standby may be behind, and what was
-- enqueued a moment ago would seem never to have been. The error is the one that a write would get there.
CREATE OR REPLACE FUNCTION {schema}.require_primary() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF pg_is_in_recovery() THEN
    RAISE EXCEPTION 'this server is a standby: effect-ray needs the one that is written to'
      USING ERRCODE = 'read_only_sql_transaction';
  END IF;
END
$$;
`,
  require_read_committed: `-- Fails unless the transaction is at read committed. A statement that waits for another transaction, and then looks, must
-- see what that one did. Under a database's default of repeatable read it would look as if from before, and leave
-- executions running under a supervisor that is gone.
CREATE OR REPLACE FUNCTION {schema}.require_read_committed() RETURNS void
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION
      'effect-ray needs the isolation level read committed, and this session begins with "%"; for its role, run ALTER ROLE ... SET default_transaction_isolation = ''read committed''',
      current_setting('transaction_isolation')
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
END
$$;
`,
  retake: `-- Takes executions back from supervisors that are gone. Their rows are deleted before, in a statement of its own, so that
-- no claim of theirs is under way.
CREATE OR REPLACE FUNCTION {schema}.retake(
  owners uuid[], losing boolean, max_losses integer, lost_result text, quarantined_result text, cancelled_result text
) RETURNS TABLE (
  taken integer,
  -- Processes that await what has ended, and the executions: two arrays of one length.
  woken_processes text[],
  woken_ids uuid[],
  -- Queues that got an execution back.
  queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
  over uuid[];
BEGIN
  PERFORM {schema}.require_read_committed();
  PERFORM 1 FROM {schema}.executions e WHERE e.owner = ANY (owners) ORDER BY e.id FOR UPDATE;
  WITH decided AS MATERIALIZED (
    SELECT e.*,
      CASE
        WHEN e.state = 'cancelling' THEN 'cancelled'
        -- At-most-once: it may have run, however its owner left.
        WHEN e.at_most_once OR (losing AND e.losses + 1 >= max_losses) THEN 'lost'
        ELSE 'queued'
      END AS next
    FROM {schema}.executions e
    WHERE e.owner = ANY (owners)
  ), gone AS (
    DELETE FROM {schema}.executions e USING decided d WHERE e.id = d.id AND d.next <> 'queued'
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
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
      false, NOT losing AND e.next <> 'lost', e.owner, e.runner_ref
    FROM decided e
    WHERE e.next <> 'queued'
  ), noted AS (
    INSERT INTO {schema}.attempts (
      execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at, result, runner_ref
    )
    SELECT e.id, e.fence, e.attempts + 1, CASE WHEN losing THEN 'lost' ELSE 'released' END, e.owner, false, NOT losing,
      e.claimed_at, ended, CASE WHEN losing THEN lost_result END, e.runner_ref
    FROM decided e
    WHERE e.next = 'queued'
  ), back AS (
    UPDATE {schema}.executions e
    SET state = 'queued', owner = NULL, fence = e.fence + 1, claimed_at = NULL, deadline_at = NULL, runner_ref = NULL,
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

  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id
  )
  SELECT array_agg(g.process::text), array_agg(g.execution_id) INTO woken_processes, woken_ids FROM gone g;
  RETURN NEXT;
END
$$;
`,
  set_aside: `-- For a claim that failed because of what a row holds: tries each row that it may have been, and ends as failed those
-- that cannot be claimed, or carried to the client. They may hold anything, so history keeps what fits.
CREATE OR REPLACE FUNCTION {schema}.set_aside(
  me uuid, lane_ids bigint[], max_rows integer, max_bytes bigint, unreadable_result text,
  OUT set_aside uuid[],
  -- Processes that await what has ended, and the executions: two arrays of one length.
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
    FROM unnest(lane_ids) AS l(lane)
    CROSS JOIN generate_series(0, 9) AS b(priority)
    CROSS JOIN LATERAL (
      SELECT e.id, e.run_at
      FROM {schema}.executions e
      WHERE e.state = 'queued' AND e.lane = l.lane AND e.priority = b.priority AND e.run_at <= {schema}.now()
      ORDER BY e.run_at, e.id
      LIMIT max_rows
    ) c
    ORDER BY b.priority DESC, c.run_at, c.id
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
      -- It can be claimed, and is as it was.
      WHEN SQLSTATE 'ERFIT' THEN NULL;
      WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
        WITH gone AS (
          DELETE FROM {schema}.executions e WHERE e.id = candidate RETURNING e.*
        )
        INSERT INTO {schema}.history (
          id, ended_at, enqueued_at, run_at, claimed_at,
          lane, fence, timeout_millis, max_attempts, format, priority, at_most_once, kind, retention, queue, task,
          payload, tags, traceparent, key,
          state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
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

  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (set_aside) RETURNING w.process, w.execution_id
  )
  SELECT array_agg(g.process::text), array_agg(g.execution_id) INTO woken_processes, woken_ids FROM gone g;
END
$$;
`,
  settle: `-- Records how attempts ended. What was proposed meets the state of its row here, under the rows' locks.
--
--   proposed                                   while running                              while cancelling
--   succeeded, failed, timed_out, lost_final   stands                                     stands
--   retry                                      queued, or failed when no attempt is left  cancelled
--   released                                   queued                                     cancelled, confirmed
--   returned                                   queued, with no attempt recorded           cancelled, confirmed
--   lost                                       queued                                     cancelled, unconfirmed
--   cancelled                                  cancelled                                  cancelled
--
-- \`flags\` says of a loss whether it counts, and of what was stopped whether that is confirmed.
CREATE OR REPLACE FUNCTION {schema}.settle(
  me uuid, ids uuid[], fences bigint[], kinds text[], results text[], delays_millis double precision[],
  flags boolean[], refs text[], cancelled_result text, unconfirmed_result text,
  -- Positions of those that are not this supervisor's to settle.
  OUT lease_lost integer[],
  -- Processes that await what has ended, and the executions: two arrays of one length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
  done bigint[];
  over uuid[];
  more bigint[];
  more_over uuid[];
BEGIN
  -- Rows are found by their ids alone. \`IS NOT DISTINCT FROM\` keeps the index of owners out of the plan: under load
  -- it is full of dead entries, one for every row this supervisor ever held, and each id would read them all.
  -- Every function locks in the order of ids, so that no two wait for each other. Successes alone are deleted in the order
  -- given, which is that one. A mixed batch is locked as a whole first; so the second statement also sees what a
  -- cancel left there.
  IF 'succeeded' <> ANY (kinds) THEN
    PERFORM 1
    FROM {schema}.executions e
    WHERE e.id = ANY (ids) AND e.owner IS NOT DISTINCT FROM me
    ORDER BY e.id
    FOR UPDATE;
  END IF;

  -- A success beats everything, so it needs no look at the row first. This is the path of nearly all.
  WITH gone AS (
    DELETE FROM {schema}.executions e
    USING unnest(ids, fences, kinds, results, refs) WITH ORDINALITY AS i(id, fence, kind, result, ref, ord)
    WHERE i.kind = 'succeeded' AND e.id = i.id AND e.fence = i.fence AND e.owner IS NOT DISTINCT FROM me
    RETURNING e.*, i.result, i.ref, i.ord
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
    )
    SELECT
      e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
      e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
      'succeeded', e.result, 'succeeded', e.attempts + 1, e.attempts + 1, e.losses, true, true, e.owner, e.ref
    FROM gone e
  )
  SELECT array_agg(g.ord), array_agg(g.id) INTO done, over FROM gone g;
  IF cardinality(done) = cardinality(ids) THEN
    WITH gone AS (
      DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id
    )
    SELECT array_agg(g.process::text), array_agg(g.execution_id) INTO woken_processes, woken_ids FROM gone g;
    RETURN;
  END IF;

  -- The rest is decided by the state of its row.
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
    WHERE e.owner IS NOT DISTINCT FROM me AND i.kind <> 'succeeded'
    ORDER BY e.id, i.ord
  ), gone AS (
    DELETE FROM {schema}.executions e USING decided d WHERE e.id = d.id AND d.next <> 'queued'
  ), filed AS (
    INSERT INTO {schema}.history (
      id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
      at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
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
      execution_id, fence, attempt, outcome, supervisor, settled, confirmed, claimed_at, ended_at, result, runner_ref
    )
    SELECT e.id, e.fence, e.attempts + 1, e.proposed, e.owner, true, e.confirmed, e.claimed_at, ended, e.result, e.ref
    FROM decided e
    WHERE e.next = 'queued' AND e.proposed <> 'returned'
  ), back AS (
    UPDATE {schema}.executions e
    SET state = 'queued', owner = NULL, fence = e.fence + 1, claimed_at = NULL, deadline_at = NULL, runner_ref = NULL,
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

  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over || more_over) RETURNING w.process, w.execution_id
  )
  SELECT array_agg(g.process::text), array_agg(g.execution_id) INTO woken_processes, woken_ids FROM gone g;
  IF cardinality(done) = cardinality(ids) THEN
    RETURN;
  END IF;

  -- What this supervisor settled before, its acknowledgement lost, is settled.
  lease_lost := ARRAY(
    SELECT i.ord::integer
    FROM unnest(ids, fences) WITH ORDINALITY AS i(id, fence, ord)
    WHERE NOT coalesce(i.ord = ANY (done), false)
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
  tell: `-- Sends messages. They tell of what is stored already, so they need not wait for the disk. Sending is no write, so a
-- server that takes none would take it, and those who listen where writes are taken would not hear.
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
  tick: `-- Renews a supervisor's lease and does the upkeep for all, in one round trip.
CREATE OR REPLACE FUNCTION {schema}.tick(
  me uuid, lease_millis double precision, lane_ids bigint[],
  -- The upkeep for all: what lapsed and what came too late. Now and then also what nobody owns who is known.
  upkeep boolean, orphans boolean, max_losses integer,
  lost_result text, quarantined_result text, unconfirmed_result text, expired_result text,
  OUT alive boolean,
  OUT cancelling uuid[],
  OUT reaped integer,
  OUT next_due_millis double precision,
  -- Processes that await what has ended, and the executions: two arrays of one length.
  OUT woken_processes text[],
  OUT woken_ids uuid[],
  -- Queues that got an execution back.
  OUT queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  ended timestamptz := {schema}.clock();
  lapsed uuid[];
  over uuid[];
  more_processes text[];
  more_ids uuid[];
BEGIN
  -- A lapsed supervisor is never revived: its executions may have other owners already.
  UPDATE {schema}.supervisors v
  SET lease_millis = tick.lease_millis, expires_at = ended + tick.lease_millis * interval '1 millisecond'
  WHERE v.id = me AND {schema}.lease_end(v.expires_at, v.lease_millis) > ended;
  alive := FOUND;
  reaped := 0;

  -- First the supervisor is gone, then its executions are looked for: a claim of its own that was under way has
  -- been seen to its end by then, and no later one can begin.
  WITH gone AS (
    DELETE FROM {schema}.supervisors v
    WHERE v.id IN (
      SELECT l.id
      FROM {schema}.supervisors l
      WHERE upkeep AND {schema}.lease_end(l.expires_at, l.lease_millis) <= ended
      ORDER BY l.id
      LIMIT 20
      FOR UPDATE SKIP LOCKED
    )
    RETURNING v.id
  )
  SELECT array_agg(g.id) INTO lapsed FROM gone g;
  IF upkeep AND orphans THEN
    SELECT lapsed || array_agg(o.owner) INTO lapsed
    FROM (
      SELECT DISTINCT e.owner FROM {schema}.executions e
      WHERE e.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {schema}.supervisors v WHERE v.id = e.owner)
      LIMIT 20
    ) o;
  END IF;
  IF lapsed IS NOT NULL THEN
    SELECT r.taken, r.woken_processes, r.woken_ids, r.queues
    INTO reaped, woken_processes, woken_ids, queues
    FROM {schema}.retake(lapsed, true, max_losses, lost_result, quarantined_result, unconfirmed_result) r;
  END IF;

  -- What was not started in time: a full batch may not be all.
  FOR round IN 1..20 LOOP
    EXIT WHEN NOT upkeep;
    WITH gone AS (
      DELETE FROM {schema}.executions e
      WHERE e.id IN (
        SELECT x.id
        FROM {schema}.executions x
        WHERE x.state = 'queued' AND x.attempts = 0 AND x.losses = 0 AND x.start_by IS NOT NULL
          AND x.start_by <= {schema}.now()
        ORDER BY x.start_by
        LIMIT 1000
        FOR UPDATE SKIP LOCKED
      )
      RETURNING e.*
    ), filed AS (
      INSERT INTO {schema}.history (
        id, ended_at, enqueued_at, run_at, claimed_at, lane, fence, timeout_millis, max_attempts, format, priority,
        at_most_once, kind, retention, queue, task, payload, tags, traceparent, key,
        state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, runner_ref
      )
      SELECT
        e.id, ended, e.enqueued_at, e.run_at, e.claimed_at, e.lane, e.fence, e.timeout_millis, e.max_attempts, e.format,
        e.priority, e.at_most_once, e.kind, e.retention, e.queue, e.task, e.payload, e.tags, e.traceparent, e.key,
        'expired', expired_result, NULL, NULL, e.attempts, e.losses, false, true, NULL, NULL
      FROM gone e
    )
    SELECT array_agg(g.id) INTO over FROM gone g;
    WITH gone AS (
      DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id
    )
    SELECT array_agg(g.process::text), array_agg(g.execution_id) INTO more_processes, more_ids FROM gone g;
    woken_processes := woken_processes || more_processes;
    woken_ids := woken_ids || more_ids;
    EXIT WHEN coalesce(cardinality(over), 0) < 1000;
  END LOOP;

  SELECT array_agg(e.id) INTO cancelling FROM {schema}.executions e WHERE e.owner = me AND e.state = 'cancelling';

  SELECT (date_part('epoch', min(d.run_at)) - date_part('epoch', {schema}.now())) * 1000
  INTO next_due_millis
  FROM unnest(lane_ids) AS l(lane)
  CROSS JOIN generate_series(0, 9) AS b(priority)
  CROSS JOIN LATERAL (
    SELECT e.run_at
    FROM {schema}.executions e
    WHERE e.state = 'queued' AND e.lane = l.lane AND e.priority = b.priority
    ORDER BY e.run_at, e.id
    LIMIT 1
  ) d;

  DELETE FROM {schema}.batches b WHERE b.id IN (
    SELECT o.id FROM {schema}.batches o WHERE o.written_at < ended - interval '1 hour'
    ORDER BY o.written_at LIMIT 50000 FOR UPDATE SKIP LOCKED
  );
  DELETE FROM {schema}.keys k WHERE (k.scope, k.key) IN (
    SELECT o.scope, o.key FROM {schema}.keys o WHERE o.expires_at IS NOT NULL AND o.expires_at <= ended
    ORDER BY o.expires_at LIMIT 1000 FOR UPDATE SKIP LOCKED
  );
END
$$;
`,
  unregister: `-- Ends a supervisor's lease in peace: what it still holds goes back, and nothing counts as lost.
CREATE OR REPLACE FUNCTION {schema}.unregister(me uuid, lost_result text, cancelled_result text)
RETURNS TABLE (
  taken integer,
  -- Processes that await what has ended, and the executions: two arrays of one length.
  woken_processes text[],
  woken_ids uuid[],
  -- Queues that got an execution back.
  queues text[]
)
LANGUAGE plpgsql
{pinned}
AS $$
#variable_conflict use_column
BEGIN
  DELETE FROM {schema}.supervisors v WHERE v.id = me;
  RETURN QUERY SELECT * FROM {schema}.retake(ARRAY[me], false, 0, lost_result, NULL, cancelled_result);
END
$$;
`,
  unserved: `-- Queues and tasks of executions that have been due for some time and that no live supervisor serves.
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
  WHERE e.id = ANY (wanted) AND e.state = 'queued'
    AND e.run_at <= {schema}.now() - since_millis * interval '1 millisecond'
    AND NOT EXISTS (
      SELECT 1 FROM {schema}.supervisors v
      WHERE e.lane = ANY (v.lanes) AND {schema}.lease_end(v.expires_at, v.lease_millis) > {schema}.now()
    );
END
$$;
`,
  watch: `-- Leaves the process's name with executions that are not over, and returns which those are. The lock lets claims pass and
-- makes an end wait, so the end finds the name, or is in history before the caller looks there.
CREATE OR REPLACE FUNCTION {schema}.watch(process text, wanted uuid[]) RETURNS SETOF uuid
LANGUAGE plpgsql
{pinned}
AS $$
DECLARE
  open uuid[];
BEGIN
  SELECT array_agg(l.id)
  INTO open
  FROM (SELECT e.id FROM {schema}.executions e WHERE e.id = ANY (wanted) ORDER BY e.id FOR KEY SHARE) l;
  INSERT INTO {schema}.waiters (execution_id, process) SELECT o.id, watch.process FROM unnest(open) AS o(id)
  ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT unnest(open);
END
$$;
`
}

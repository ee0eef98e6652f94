/** The SQL files of this folder. Written by `make format`: change the files. */

/** The version of this package. */
export const version = "0.0.0"

/** The text of each function, by its name. */
export const functions: Readonly<Record<string, string>> = {
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
  -- As many as fit one message. The other processes find out by themselves, see \`find_ended\`.
  max_woken CONSTANT integer := 10000;
  -- How long it waits for an execution that another transaction holds. The caller tries again.
  lock_patience CONSTANT text := '50ms';
  ended timestamptz := {schema}.clock();
  found_state text;
  over uuid[];
  lock_timeout text := current_setting('lock_timeout');
BEGIN
  PERFORM set_config('lock_timeout', lock_patience, true);
  SELECT e.state INTO found_state FROM {schema}.executions e WHERE e.id = wanted FOR UPDATE;
  PERFORM set_config('lock_timeout', lock_timeout, true);
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
      state, result, outcome, attempt, attempts, losses, settled, confirmed, supervisor, place
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
  SELECT (array_agg(g.process::text))[1:max_woken], (array_agg(g.execution_id))[1:max_woken]
  INTO woken_processes, woken_ids
  FROM gone g;
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
  clock: `-- The time of leases and records. It advances within a statement. Like now(), only the test kit replaces it.
CREATE OR REPLACE FUNCTION {schema}.clock() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE
RETURN clock_timestamp();
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
       SELECT h.id, h.fence, h.task, h.key FROM {schema}.%I h WHERE h.id > $1 ORDER BY h.id LIMIT $2
     ), keys AS (
       DELETE FROM {schema}.keys k USING part p
       WHERE p.key IS NOT NULL AND k.scope = p.task AND k.key = p.key AND k.execution_id = p.id
     ), attempts AS (
       DELETE FROM {schema}.attempts a USING part p WHERE p.fence > 1 AND a.execution_id = p.id
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
  -- As many as fit one message. The other processes find out by themselves, see \`find_ended\`.
  max_woken CONSTANT integer := 10000;
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

  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id
  )
  SELECT (array_agg(g.process::text))[1:max_woken], (array_agg(g.execution_id))[1:max_woken]
  INTO woken_processes, woken_ids
  FROM gone g;
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
        CASE WHEN e.state = 'queued' THEN coalesce(
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
  WHERE e.id = ANY (wanted) AND e.owner IS NOT DISTINCT FROM me AND e.state IN ('running', 'cancelling');
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
  WHERE e.owner = me AND e.state IN ('running', 'cancelling');
END
$$;
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
  -- As many as fit one message. The other processes find out by themselves, see \`find_ended\`.
  max_woken CONSTANT integer := 10000;
  ended timestamptz := {schema}.clock();
  held uuid[];
  over uuid[];
BEGIN
  PERFORM {schema}.require_read_committed();
  -- Rows that another transaction holds wait for a later turn.
  SELECT array_agg(l.id)
  INTO held
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
        WHEN e.state = 'cancelling' THEN 'cancelled'
        -- At-most-once: it may have run, however its owner left.
        WHEN e.at_most_once OR (losing AND e.losses + 1 >= max_losses) THEN 'lost'
        ELSE 'queued'
      END AS next
    FROM {schema}.executions e
    WHERE e.id = ANY (held) AND e.owner = ANY (owners)
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
    WHERE e.next = 'queued'
    ON CONFLICT DO NOTHING
  ), back AS (
    UPDATE {schema}.executions e
    SET state = 'queued', owner = NULL, fence = least(e.fence + 1, max_fence), claimed_at = NULL, deadline_at = NULL,
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
  SELECT (array_agg(g.process::text))[1:max_woken], (array_agg(g.execution_id))[1:max_woken]
  INTO woken_processes, woken_ids
  FROM gone g;
  more := taken > 0 AND EXISTS (SELECT 1 FROM {schema}.executions e WHERE e.owner = ANY (owners));
  RETURN NEXT;
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
  -- As many as fit one message. The other processes find out by themselves, see \`find_ended\`.
  max_woken CONSTANT integer := 10000;
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

  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (set_aside) RETURNING w.process, w.execution_id
  )
  SELECT (array_agg(g.process::text))[1:max_woken], (array_agg(g.execution_id))[1:max_woken]
  INTO woken_processes, woken_ids
  FROM gone g;
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
  -- As many as fit one message. The other processes find out by themselves, see \`find_ended\`.
  max_woken CONSTANT integer := 10000;
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
    WITH gone AS (
      DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over) RETURNING w.process, w.execution_id
    )
    SELECT (array_agg(g.process::text))[1:max_woken], (array_agg(g.execution_id))[1:max_woken]
    INTO woken_processes, woken_ids
    FROM gone g;
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
    WHERE e.owner IS NOT DISTINCT FROM me AND i.kind <> 'succeeded'
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

  WITH gone AS (
    DELETE FROM {schema}.waiters w WHERE w.execution_id = ANY (over || more_over) RETURNING w.process, w.execution_id
  )
  SELECT (array_agg(g.process::text))[1:max_woken], (array_agg(g.execution_id))[1:max_woken]
  INTO woken_processes, woken_ids
  FROM gone g;
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
  tick: `-- Renews a supervisor's lease, and returns what it needs to know: which of its lanes are paused, what to cancel, when
-- the next execution of these lanes is due, and which duties are due.
CREATE OR REPLACE FUNCTION {schema}.tick(
  me uuid, lease_millis double precision, lane_ids bigint[], duty_names text[],
  OUT alive boolean,
  OUT cancelling uuid[],
  OUT next_due_millis double precision,
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
      ELSE true
    END;
END
$$;
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

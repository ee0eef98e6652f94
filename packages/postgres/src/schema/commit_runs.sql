-- Records what runs did: entries of their journals, the messages that these were, children, tasks and messages to send, and
-- what each run does next. All of a run's commit, or nothing.
--
-- It locks the runs first and looks at their inboxes then, in a statement of its own: a message whose commit it has not seen
-- finds the run waiting when its wake is applied. It locks no other runs; what concerns those is inserted.
--
-- The statement waits for a moment for rows that another transaction holds, then fails with lock_not_available. With
-- `pass_locked` it skips them. A commit that is repeated after a lost acknowledgement changes nothing.
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
  -- For each commit: `running`, `waiting` or `over`, `lost` or `locked`.
  OUT states text[],
  -- The messages that are left in each inbox, see `unread_of`.
  OUT unreads text[],
  -- Processes that await runs that are over, and those runs: two arrays of equal length. The process `*` stands for runs
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
    -- Nothing can end a child that this transaction has made. One that existed may just end: see `apply_wakes`.
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

-- Records how attempts ended. Each proposal meets the state of its row here, under the row's lock.
--
--   proposed                                   while running                              while cancelling
--   succeeded, failed, timed_out, lost_final   stands                                     stands
--   retry                                      queued, or failed when no attempt is left  cancelled
--   released                                   queued                                     cancelled, confirmed
--   returned                                   queued, with no attempt recorded           cancelled, confirmed
--   lost                                       queued                                     cancelled, unconfirmed
--   cancelled                                  cancelled                                  cancelled
--
-- `flags`: for a loss, whether it counts; for an attempt that was stopped, whether that is confirmed.
--
-- The statement waits for a moment for rows that another transaction holds, then fails with lock_not_available. With
-- `pass_locked` it skips them and settles the others.
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
  -- The end of the domain `fence`. A row with this fence cannot be claimed any more, and is set aside.
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

  -- Rows are found by their ids alone. `IS NOT DISTINCT FROM` keeps the index of owners out of the plan: under load it
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

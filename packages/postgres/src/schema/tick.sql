-- Renews a supervisor's lease and does the upkeep for all, in one round trip.
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

-- For a claim that failed because of the content of a row. Tries each row that may be to blame, and ends as failed
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
  -- The bounds of the domain `moment`.
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

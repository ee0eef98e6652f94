-- Renews a supervisor's lease, and returns what it needs to know: which of its lanes are paused, what to cancel, when
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

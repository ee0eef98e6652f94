-- Stores executions without idempotency keys. A token makes the statement repeatable after a lost acknowledgement.
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

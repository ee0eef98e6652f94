-- Stores executions of requests, of which at least one has an idempotency key. Returns, for every row with a key, which
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

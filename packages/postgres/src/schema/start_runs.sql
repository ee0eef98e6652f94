-- Stores runs whose ids are not known, and returns what became of each: `owned`, `stored` or `exists`. A run that is to be
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

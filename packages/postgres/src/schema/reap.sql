-- Takes executions back from supervisors whose leases have lapsed, and forgets supervisors that own nothing more.
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

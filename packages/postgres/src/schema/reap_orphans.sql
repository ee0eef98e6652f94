-- Takes back executions whose owner is not a supervisor: a worker left before everything it owned was given back, or a
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

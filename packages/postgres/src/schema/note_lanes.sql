-- Records lanes for people to see. Leaves existing rows alone.
CREATE OR REPLACE FUNCTION {schema}.note_lanes(ids bigint[], queues text[], tasks text[]) RETURNS void
LANGUAGE plpgsql
{pinned}
AS $$
BEGIN
  INSERT INTO {schema}.lanes (id, queue, task, created_at)
  SELECT i.id, i.queue, i.task, {schema}.clock() FROM unnest(ids, queues, tasks) AS i(id, queue, task)
  ON CONFLICT DO NOTHING;
END
$$;

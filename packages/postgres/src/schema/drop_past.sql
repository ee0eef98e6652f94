-- Drops the oldest partition of history past its class's retention, one part at a time, and returns whether there is
-- more to do at once. It first deletes the idempotency keys that name its executions, because a key must not name what
-- can no longer be read, and their earlier attempts; then it drops the partition.
--
-- Dropping needs a lock that every reader and writer of history blocks. It waits for a moment only, so that none waits
-- behind it for long, and the next turn tries again. DETACH ... CONCURRENTLY would wait less, but no function may run
-- it, and only the owner of the tables could.
CREATE OR REPLACE FUNCTION {schema}.drop_past(max_rows integer) RETURNS boolean
LANGUAGE plpgsql
{pinned}
SET timezone = 'GMT'
SET datestyle = 'ISO, YMD'
SET lock_timeout = '100ms'
AS $$
DECLARE
  past record;
  from_id uuid;
  last_id uuid;
BEGIN
  SELECT 'history_' || c.name AS parent, l.relname AS leaf
  INTO past
  FROM {schema}.retention_classes c
  JOIN pg_class p ON p.relnamespace = '{schema}'::regnamespace AND p.relname = 'history_' || c.name AND p.relkind = 'p'
  JOIN pg_inherits i ON i.inhparent = p.oid
  JOIN pg_class l ON l.oid = i.inhrelid
  WHERE l.relname ~ ('^history_' || c.name || '_[0-9]{8}$')
    AND to_date(right(l.relname, 8), 'YYYYMMDD') + 1 <= clock_timestamp() - c.keep
  ORDER BY right(l.relname, 8)
  LIMIT 1;
  IF NOT FOUND THEN
    RETURN false;
  END IF;

  INSERT INTO {schema}.drops (leaf, after_id)
  VALUES (past.leaf, '00000000-0000-0000-0000-000000000000')
  ON CONFLICT (leaf) DO NOTHING;
  SELECT d.after_id INTO from_id FROM {schema}.drops d WHERE d.leaf = past.leaf FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN false;
  END IF;

  EXECUTE format(
    'WITH part AS MATERIALIZED (
       SELECT h.id, h.kind, h.fence, h.task, h.key FROM {schema}.%I h WHERE h.id > $1 ORDER BY h.id LIMIT $2
     ), keys AS (
       DELETE FROM {schema}.keys k USING part p
       WHERE p.key IS NOT NULL AND k.scope = p.task AND k.key = p.key AND k.execution_id = p.id
     ), attempts AS (
       DELETE FROM {schema}.attempts a USING part p WHERE p.fence > 1 AND a.execution_id = p.id
     ), runs AS (
       DELETE FROM {schema}.runs r USING part p WHERE p.kind = ''workflow'' AND r.id = p.id
     )
     SELECT p.id FROM part p ORDER BY p.id DESC LIMIT 1',
    past.leaf
  ) INTO last_id USING from_id, max_rows;
  IF last_id IS NOT NULL THEN
    UPDATE {schema}.drops d SET after_id = last_id WHERE d.leaf = past.leaf;
    RETURN true;
  END IF;

  EXECUTE format('ALTER TABLE {schema}.%I DETACH PARTITION {schema}.%I', past.parent, past.leaf);
  EXECUTE format('DROP TABLE {schema}.%I', past.leaf);
  DELETE FROM {schema}.drops d WHERE d.leaf = past.leaf;
  RETURN true;
EXCEPTION
  WHEN lock_not_available THEN
    RETURN false;
END
$$;

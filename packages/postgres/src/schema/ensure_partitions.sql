-- Adds the partitions of history for today and the days ahead, and returns how many. Each is created separately and
-- then attached: creating it in place would wait for every reader and block the writers behind it.
--
-- The days are UTC, whatever the session's time zone and date style.
CREATE OR REPLACE FUNCTION {schema}.ensure_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql
{safe}
SET timezone = 'GMT'
SET datestyle = 'ISO, YMD'
-- The caller retries, so that no writer waits long behind it.
SET lock_timeout = '2s'
AS $$
DECLARE
  max_days_ahead CONSTANT integer := 30;
  class record;
  day timestamptz;
  leaf text;
  made integer := 0;
BEGIN
  FOR class IN
    -- If one class has no table, the others still get theirs.
    SELECT 'history_' || c.name AS parent
    FROM {schema}.retention_classes c
    JOIN pg_class t ON t.relnamespace = '{schema}'::regnamespace AND t.relname = 'history_' || c.name AND t.relkind = 'p'
    JOIN pg_inherits i ON i.inhrelid = t.oid AND i.inhparent = '{schema}.history'::regclass
    ORDER BY c.name
  LOOP
    FOR ahead IN 0..least(days_ahead, max_days_ahead) LOOP
      day := date_trunc('day', clock_timestamp()) + make_interval(days => ahead);
      leaf := format('%s_%s', class.parent, to_char(day, 'YYYYMMDD'));
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      -- One session at a time: the next one finds the partition. Unlike an advisory lock, a lock on the table also
      -- makes what others created visible to to_regclass. It is the lock that ATTACH takes; it blocks no reader or
      -- writer.
      EXECUTE format('LOCK TABLE {schema}.%I IN SHARE UPDATE EXCLUSIVE MODE', class.parent);
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      EXECUTE format(
        'CREATE TABLE {schema}.%I (
           LIKE {schema}.history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
           CONSTRAINT of_this_day CHECK (finished_at IS NOT NULL AND finished_at >= %L AND finished_at < %L)
         )',
        leaf, day, day + interval '1 day'
      );
      EXECUTE format(
        'ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
        class.parent, leaf, day, day + interval '1 day'
      );
      EXECUTE format('ALTER TABLE {schema}.%I DROP CONSTRAINT of_this_day', leaf);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;

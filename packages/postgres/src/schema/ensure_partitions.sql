-- Makes the partitions of history for today and the days ahead, and returns how many. Each is made beside the table and
-- attached: making it in place would wait for every reader and hold up the writers behind it.
CREATE OR REPLACE FUNCTION {schema}.ensure_partitions(days_ahead integer) RETURNS integer
LANGUAGE plpgsql
{safe}
SET lock_timeout = '2s'
AS $$
DECLARE
  class record;
  day timestamp;
  leaf text;
  made integer := 0;
BEGIN
  FOR class IN SELECT c.name FROM {schema}.retention_classes c ORDER BY c.name LOOP
    -- A class that nobody has made a table for is no reason to make none for the others.
    CONTINUE WHEN to_regclass(format('{schema}.%I', 'history_' || class.name)) IS NULL;
    FOR ahead IN 0..least(days_ahead, 30) LOOP
      day := date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(days => ahead);
      leaf := format('history_%s_%s', class.name, to_char(day, 'YYYYMMDD'));
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      -- One maker at a time; whoever waited finds it made. A lock on the table also makes what others made visible to
      -- to_regclass, which an advisory lock does not. It is the one that ATTACH takes; readers and writers pass.
      EXECUTE format('LOCK TABLE {schema}.%I IN SHARE UPDATE EXCLUSIVE MODE', 'history_' || class.name);
      CONTINUE WHEN to_regclass(format('{schema}.%I', leaf)) IS NOT NULL;
      EXECUTE format(
        'CREATE TABLE {schema}.%I (
           LIKE {schema}.history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
           CONSTRAINT of_this_day CHECK (
             finished_at IS NOT NULL AND finished_at >= %L::timestamptz AND finished_at < %L::timestamptz)
         )',
        leaf, day AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC'
      );
      EXECUTE format(
        'ALTER TABLE {schema}.%I ATTACH PARTITION {schema}.%I FOR VALUES FROM (%L) TO (%L)',
        'history_' || class.name, leaf, day AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC'
      );
      EXECUTE format('ALTER TABLE {schema}.%I DROP CONSTRAINT of_this_day', leaf);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END
$$;

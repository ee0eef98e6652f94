import { safe } from "./shared.ts"

/** The most days ahead that there are partitions for: whoever may make them makes no more. */
const maxDaysAhead = 30

/** How long making a partition waits for a lock, so that nobody waits long behind it. Its caller tries again. */
const lockPatience = "2s"

/**
 * What is over, by retention class and by the day it was filed.
 *
 * The partition key is real time, never a test's: `ended_at` is what the durable clock said. There is no default
 * partition, because attaching beside one has to scan it; partitions are made days ahead instead.
 */
export const history = (s: string): ReadonlyArray<string> => [
  `
  CREATE TABLE ${s}.retention_classes (
    name text PRIMARY KEY,
    keep interval NOT NULL,
    CONSTRAINT retention_classes_name_is_plain CHECK (name ~ '^[a-z][a-z0-9_]{0,19}$'),
    CONSTRAINT retention_classes_keep_in_range CHECK (keep BETWEEN interval '1 day' AND interval '80 days')
  )
  `,
  `INSERT INTO ${s}.retention_classes (name, keep) VALUES ('default', interval '30 days')`,

  // The columns from \`fence\` to \`runner_ref\` tell of the last attempt; \`outcome\` is null when there was none.
  `
  CREATE TABLE ${s}.history (
    id uuid NOT NULL,
    finished_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at ${s}.moment NOT NULL,
    enqueued_at ${s}.moment NOT NULL,
    run_at ${s}.moment NOT NULL,
    claimed_at ${s}.moment,
    lane bigint NOT NULL,
    fence ${s}.fence NOT NULL,
    timeout_millis double precision NOT NULL,
    attempt integer,
    attempts integer NOT NULL,
    losses integer NOT NULL,
    max_attempts integer NOT NULL,
    format integer NOT NULL,
    priority smallint NOT NULL,
    at_most_once boolean NOT NULL,
    settled boolean NOT NULL,
    confirmed boolean NOT NULL,
    supervisor uuid,
    kind text NOT NULL,
    state text NOT NULL,
    retention text NOT NULL,
    queue text NOT NULL,
    task text NOT NULL,
    outcome text,
    payload text NOT NULL,
    result ${s}.result NOT NULL,
    tags jsonb,
    traceparent text,
    key text,
    runner_ref text,
    CONSTRAINT history_state_is_terminal CHECK (state IN ('succeeded', 'failed', 'cancelled', 'expired', 'lost')),
    CONSTRAINT history_outcome_is_known
      CHECK (outcome IN ('succeeded', 'failed', 'timed_out', 'cancelled', 'lost'))
  ) PARTITION BY LIST (retention)
  `,
  `CREATE INDEX history_by_id ON ${s}.history (id)`,
  `
  CREATE TABLE ${s}.history_default PARTITION OF ${s}.history
  FOR VALUES IN ('default') PARTITION BY RANGE (finished_at)
  `,

  // Makes the partitions of today and the days ahead. Each is made beside the table and attached: making it in place
  // would wait for every reader and hold up the writers behind it.
  `
  CREATE FUNCTION ${s}.ensure_partitions(days_ahead integer) RETURNS integer
  LANGUAGE plpgsql
  ${safe}
  SET lock_timeout = '${lockPatience}'
  AS $$
  DECLARE
    class record;
    day timestamp;
    leaf text;
    made integer := 0;
  BEGIN
    FOR class IN SELECT c.name FROM ${s}.retention_classes c ORDER BY c.name LOOP
      -- A class that nobody has made a table for is no reason to make none for the others.
      CONTINUE WHEN to_regclass(format('${s}.%I', 'history_' || class.name)) IS NULL;
      FOR ahead IN 0..least(days_ahead, ${maxDaysAhead}) LOOP
        day := date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') + make_interval(days => ahead);
        leaf := format('history_%s_%s', class.name, to_char(day, 'YYYYMMDD'));
        CONTINUE WHEN to_regclass(format('${s}.%I', leaf)) IS NOT NULL;
        -- One maker at a time; whoever waited finds it made. A lock on the table also makes what others made visible to
        -- to_regclass, which an advisory lock does not. It is the one that ATTACH takes; readers and writers pass.
        EXECUTE format('LOCK TABLE ${s}.%I IN SHARE UPDATE EXCLUSIVE MODE', 'history_' || class.name);
        CONTINUE WHEN to_regclass(format('${s}.%I', leaf)) IS NOT NULL;
        EXECUTE format(
          'CREATE TABLE ${s}.%I (
             LIKE ${s}.history INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES,
             CONSTRAINT of_this_day CHECK (
               finished_at IS NOT NULL AND finished_at >= %L::timestamptz AND finished_at < %L::timestamptz)
           )',
          leaf, day AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC'
        );
        EXECUTE format(
          'ALTER TABLE ${s}.%I ATTACH PARTITION ${s}.%I FOR VALUES FROM (%L) TO (%L)',
          'history_' || class.name, leaf, day AT TIME ZONE 'UTC', (day + interval '1 day') AT TIME ZONE 'UTC'
        );
        EXECUTE format('ALTER TABLE ${s}.%I DROP CONSTRAINT of_this_day', leaf);
        made := made + 1;
      END LOOP;
    END LOOP;
    RETURN made;
  END
  $$
  `,
  `SELECT ${s}.ensure_partitions(7)`
]

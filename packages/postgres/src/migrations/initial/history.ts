/**
 * Executions that have ended, by retention class and by the day they were stored.
 *
 * The partition key is real time, never a test's: `ended_at` is what the durable clock said. There is no default
 * partition, because attaching a partition beside one has to scan it. Partitions are made days ahead instead.
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

  // The columns from `fence` to `runner_ref` describe the last attempt; `outcome` is null if there was none.
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
  `
]

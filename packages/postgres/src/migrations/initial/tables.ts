/**
 * What columns may hold. Rows are also written by hand, and every computation with a column relies on its bounds.
 *
 * Domains, because every statement that writes reads and plans a table's CHECK anew, which costs a small statement more
 * than all its other work. A session keeps a domain's constraint, and only the written values are checked.
 */
const domains = (s: string): ReadonlyArray<string> => [
  // The range of a JavaScript date.
  `
  CREATE DOMAIN ${s}.moment AS timestamptz
  CONSTRAINT moment_in_range CHECK (VALUE BETWEEN '0001-01-01 00:00:00+00' AND '200000-01-01 00:00:00+00')
  `,
  // A hundred thousand years. In Postgres, NaN is above every number.
  `CREATE DOMAIN ${s}.millis AS double precision CONSTRAINT millis_in_range CHECK (VALUE BETWEEN 0 AND 3.2e15)`,
  `CREATE DOMAIN ${s}.timeout AS double precision CONSTRAINT timeout_in_range CHECK (VALUE > 0 AND VALUE <= 3.2e15)`,
  // Whole numbers that JavaScript represents exactly.
  `CREATE DOMAIN ${s}.fence AS bigint CONSTRAINT fence_in_range CHECK (VALUE BETWEEN 0 AND 9007199254740991)`,
  // Far below the end of an integer, because it is incremented without checking for room.
  `CREATE DOMAIN ${s}.tally AS integer CONSTRAINT tally_in_range CHECK (VALUE BETWEEN 0 AND 1000000000)`,
  `CREATE DOMAIN ${s}.positive AS integer CONSTRAINT positive_in_range CHECK (VALUE >= 1)`,
  `CREATE DOMAIN ${s}.band AS smallint CONSTRAINT band_in_range CHECK (VALUE BETWEEN 0 AND 9)`,
  `CREATE DOMAIN ${s}.name AS text CONSTRAINT name_in_range CHECK (octet_length(VALUE) BETWEEN 1 AND 400)`,
  `CREATE DOMAIN ${s}.label AS text CONSTRAINT label_in_range CHECK (octet_length(VALUE) <= 4096)`,
  // A payload and a result are in one row of history, and the client accepts 16 MiB in one message. A result is
  // wrapped.
  `
  CREATE DOMAIN ${s}.payload AS text
  CONSTRAINT payload_can_be_carried CHECK (octet_length(VALUE) <= ${7 * 1024 * 1024})
  `,
  `
  CREATE DOMAIN ${s}.result AS text
  CONSTRAINT result_can_be_carried CHECK (octet_length(VALUE) <= ${7 * 1024 * 1024 + 1024})
  `,
  `
  CREATE DOMAIN ${s}.tags AS jsonb
  CONSTRAINT tags_in_range CHECK (jsonb_typeof(VALUE) = 'object' AND octet_length(VALUE::text) <= ${64 * 1024})
  `,
  // History has partitions for these days.
  `CREATE DOMAIN ${s}.retention AS text CONSTRAINT retention_is_known CHECK (VALUE = 'default')`,
  // Part of the name of a channel.
  `CREATE DOMAIN ${s}.process AS text CONSTRAINT process_is_plain CHECK (VALUE ~ '^[0-9a-f]{16}$')`
]

/**
 * The tables of the first schema.
 *
 * `executions` holds executions that have not ended. It stays small, and every index on it except the primary key is
 * partial by state, so that neither history nor waiting runs slow down a claim. Ended executions move to `history`,
 * whose partitions can be dropped one day at a time.
 */
export const tables = (s: string): ReadonlyArray<string> => [
  ...domains(s),

  `
  CREATE TABLE ${s}.supervisors (
    id uuid PRIMARY KEY,
    label ${s}.label NOT NULL,
    lanes bigint[] NOT NULL,
    registered_at ${s}.moment NOT NULL,
    lease_millis ${s}.millis NOT NULL,
    expires_at ${s}.moment NOT NULL
  )
  `,

  // What supervisors claim by, for people and for pauses. Rows of executions have queue and task themselves, so an
  // enqueue never waits for this table inside the app's transaction.
  `
  CREATE TABLE ${s}.lanes (
    id bigint PRIMARY KEY,
    queue ${s}.name NOT NULL,
    task ${s}.name NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    CONSTRAINT lanes_queue_and_task_once UNIQUE (queue, task)
  )
  `,

  `
  CREATE TABLE ${s}.executions (
    id uuid PRIMARY KEY,
    lane bigint NOT NULL,
    run_at ${s}.moment NOT NULL,
    enqueued_at ${s}.moment NOT NULL,
    fence ${s}.fence NOT NULL DEFAULT 0,
    wake bigint NOT NULL DEFAULT 0,
    timeout_millis ${s}.timeout NOT NULL,
    band ${s}.band NOT NULL,
    priority ${s}.band NOT NULL,
    attempts ${s}.tally NOT NULL DEFAULT 0,
    losses ${s}.tally NOT NULL DEFAULT 0,
    max_attempts ${s}.positive NOT NULL,
    format ${s}.positive NOT NULL,
    at_most_once boolean NOT NULL,
    kind text NOT NULL DEFAULT 'task',
    state text NOT NULL DEFAULT 'queued',
    retention ${s}.retention NOT NULL DEFAULT 'default',
    queue ${s}.name NOT NULL,
    task ${s}.name NOT NULL,
    payload ${s}.payload NOT NULL,
    tags ${s}.tags,
    traceparent ${s}.label,
    key ${s}.label,
    start_by ${s}.moment,
    owner uuid,
    claimed_at ${s}.moment,
    deadline_at timestamptz,
    runner_ref ${s}.label,
    CONSTRAINT executions_kind_is_known CHECK (kind IN ('task', 'workflow')),
    CONSTRAINT executions_state_is_open CHECK (state IN ('queued', 'running', 'cancelling', 'waiting')),
    CONSTRAINT executions_owner_while_running CHECK (
      (state IN ('running', 'cancelling')) = (owner IS NOT NULL) AND (owner IS NULL) = (claimed_at IS NULL)
    )
  ) WITH (
    fillfactor = 90,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.1,
    autovacuum_vacuum_cost_delay = 0
  )
  `,
  `CREATE INDEX executions_to_claim ON ${s}.executions (lane, band, run_at, id) WHERE state = 'queued'`,
  `CREATE INDEX executions_of_owner ON ${s}.executions (owner) WHERE owner IS NOT NULL`,
  `CREATE INDEX executions_to_cancel ON ${s}.executions (owner) WHERE state = 'cancelling'`,
  `CREATE INDEX executions_to_expire ON ${s}.executions (start_by)
    WHERE state = 'queued' AND attempts = 0 AND losses = 0 AND start_by IS NOT NULL`,
  `CREATE INDEX executions_to_wake ON ${s}.executions (run_at) WHERE state = 'waiting'`,

  // Why a supervisor does not claim from a lane that it serves, shown with the executions that wait there.
  `
  CREATE TABLE ${s}.holds (
    supervisor uuid NOT NULL REFERENCES ${s}.supervisors (id) ON DELETE CASCADE,
    lane bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (supervisor, lane),
    CONSTRAINT holds_reason_in_range CHECK (octet_length(reason) <= 8192)
  )
  `,
  `CREATE INDEX holds_of_lane ON ${s}.holds (lane)`,

  // Attempts before the last one. The last is in the columns of its history row, so a first try that succeeds, as
  // nearly all do, costs one insert.
  `
  CREATE TABLE ${s}.attempts (
    execution_id uuid NOT NULL,
    fence ${s}.fence NOT NULL,
    attempt integer NOT NULL,
    outcome text NOT NULL,
    supervisor uuid NOT NULL,
    settled boolean NOT NULL,
    confirmed boolean NOT NULL,
    claimed_at ${s}.moment NOT NULL,
    ended_at ${s}.moment NOT NULL,
    result ${s}.result,
    runner_ref ${s}.label,
    PRIMARY KEY (execution_id, fence),
    CONSTRAINT attempts_outcome_is_known CHECK (outcome IN ('retry', 'released', 'lost'))
  )
  `,

  // Processes that await an execution. A separate table, guarded by a key-share lock on the execution: adding a name
  // does not keep a claim from the row, and a statement that ends the execution waits until the name is there.
  `
  CREATE TABLE ${s}.waiters (
    execution_id uuid NOT NULL,
    process ${s}.process NOT NULL,
    PRIMARY KEY (execution_id, process)
  )
  `,

  // Which execution has the key. A row is valid as long as the record it names, or until `expires_at`.
  `
  CREATE TABLE ${s}.keys (
    scope text NOT NULL,
    key text NOT NULL,
    execution_id uuid NOT NULL,
    payload_digest uuid NOT NULL,
    expires_at timestamptz,
    PRIMARY KEY (scope, key)
  )
  `,
  `CREATE INDEX keys_to_expire ON ${s}.keys (expires_at) WHERE expires_at IS NOT NULL`,

  // A batch leaves its token here, so that repeating it after a lost acknowledgement does nothing.
  `
  CREATE TABLE ${s}.batches (
    id uuid PRIMARY KEY,
    written_at timestamptz NOT NULL
  )
  `,
  `CREATE INDEX batches_to_forget ON ${s}.batches (written_at)`,

  `
  CREATE TABLE ${s}.gateways (
    deployment text NOT NULL,
    cluster text NOT NULL,
    epoch ${s}.tally NOT NULL,
    submission_id text NOT NULL,
    protocol integer NOT NULL,
    secret text NOT NULL,
    host text,
    port integer,
    opened_at timestamptz NOT NULL,
    PRIMARY KEY (deployment, cluster, epoch),
    CONSTRAINT gateways_address_is_whole CHECK ((host IS NULL) = (port IS NULL)),
    CONSTRAINT gateways_numbers_in_range
      CHECK (protocol >= 0 AND (port IS NULL OR port BETWEEN 1 AND 65535))
  )
  `
]

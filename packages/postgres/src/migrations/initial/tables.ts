/**
 * The tables of the first schema.
 *
 * `executions` holds what is not over; it stays small, and every index on it but the primary key is partial by state,
 * so that neither history nor waiting runs slow a claim. What is over moves to `history`, whose partitions can
 * be dropped, a day at a time.
 */
export const tables = (s: string): ReadonlyArray<string> => [
  // The two clocks. Plain wrappers, which the planner inlines; only the test kit replaces them. `now` does not move
  // within a statement, so it can serve an index condition; `clock` does, and is what leases and records use.
  `
  CREATE FUNCTION ${s}.now() RETURNS timestamptz
  LANGUAGE sql STABLE PARALLEL SAFE
  AS 'SELECT statement_timestamp()'
  `,
  `
  CREATE FUNCTION ${s}.clock() RETURNS timestamptz
  LANGUAGE sql VOLATILE PARALLEL SAFE
  AS 'SELECT clock_timestamp()'
  `,

  // What waits for another transaction and then looks must see what that one did. Under a database's default of repeatable
  // read it would look as if from before, and leave executions running under a supervisor that is gone.
  `
  CREATE FUNCTION ${s}.need_read_committed() RETURNS void
  LANGUAGE plpgsql
  AS $$
  BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
      RAISE EXCEPTION
        'effect-ray needs the isolation level read committed, and this session begins with "%"; for its role, run ALTER ROLE ... SET default_transaction_isolation = ''read committed''',
        current_setting('transaction_isolation')
        USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
  END
  $$
  `,

  `
  CREATE TABLE ${s}.supervisors (
    id uuid PRIMARY KEY,
    label text NOT NULL,
    registered_at timestamptz NOT NULL,
    lease_millis double precision NOT NULL,
    expires_at timestamptz NOT NULL
  )
  `,
  // While the server was down nobody could renew. Its start begins every lease anew, so that an outage longer than a
  // lease takes nothing from workers that are alive; those that are not lapse one lease after it.
  `
  CREATE FUNCTION ${s}.lease_end(expires_at timestamptz, lease_millis double precision) RETURNS timestamptz
  LANGUAGE sql STABLE PARALLEL SAFE
  AS 'SELECT greatest(expires_at, pg_postmaster_start_time() + lease_millis * interval ''1 millisecond'')'
  `,

  // What supervisors claim by, for people and for what is paused. Rows of executions carry queue and task themselves,
  // so enqueue never waits for this table inside the app's transaction.
  `
  CREATE TABLE ${s}.lanes (
    id bigint PRIMARY KEY,
    queue text NOT NULL,
    task text NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    CONSTRAINT lanes_queue_and_task_once UNIQUE (queue, task)
  )
  `,

  `
  CREATE TABLE ${s}.executions (
    id uuid PRIMARY KEY,
    lane bigint NOT NULL,
    run_at timestamptz NOT NULL,
    enqueued_at timestamptz NOT NULL,
    fence bigint NOT NULL DEFAULT 0,
    wake bigint NOT NULL DEFAULT 0,
    timeout_millis double precision NOT NULL,
    band smallint NOT NULL,
    priority smallint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    losses integer NOT NULL DEFAULT 0,
    max_attempts integer NOT NULL,
    format integer NOT NULL,
    at_most_once boolean NOT NULL,
    kind text NOT NULL DEFAULT 'task',
    state text NOT NULL DEFAULT 'queued',
    retention text NOT NULL DEFAULT 'default',
    queue text NOT NULL,
    task text NOT NULL,
    payload text NOT NULL,
    tags jsonb,
    traceparent text,
    key text,
    start_by timestamptz,
    owner uuid,
    claimed_at timestamptz,
    deadline_at timestamptz,
    runner_ref text,
    CONSTRAINT executions_kind_is_known CHECK (kind IN ('task', 'workflow')),
    CONSTRAINT executions_state_is_open CHECK (state IN ('queued', 'running', 'cancelling', 'waiting')),
    CONSTRAINT executions_owner_while_running CHECK ((state IN ('running', 'cancelling')) = (owner IS NOT NULL)),
    CONSTRAINT executions_band_in_range CHECK (band BETWEEN 0 AND 9 AND priority BETWEEN 0 AND 9),
    CONSTRAINT executions_max_attempts_positive CHECK (max_attempts >= 1)
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

  // Why a supervisor claims nothing of a lane that it serves, for those who read what waits there.
  `
  CREATE TABLE ${s}.holds (
    supervisor uuid NOT NULL REFERENCES ${s}.supervisors (id) ON DELETE CASCADE,
    lane bigint NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (supervisor, lane)
  )
  `,
  `CREATE INDEX holds_of_lane ON ${s}.holds (lane)`,

  // Attempts that were not the last. The last one lies in the columns of its history row: a first try that succeeds,
  // which is nearly all of them, costs one insert.
  `
  CREATE TABLE ${s}.attempts (
    execution_id uuid NOT NULL,
    fence bigint NOT NULL,
    attempt integer NOT NULL,
    outcome text NOT NULL,
    supervisor uuid NOT NULL,
    settled boolean NOT NULL,
    confirmed boolean NOT NULL,
    claimed_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    result text,
    runner_ref text,
    PRIMARY KEY (execution_id, fence),
    CONSTRAINT attempts_outcome_is_known CHECK (outcome IN ('retry', 'released', 'lost'))
  )
  `,

  // Processes that await an execution. A table of its own, guarded by a key-share lock on the execution: leaving a name
  // keeps no claim from the row, and whoever ends the execution waits until the name is there.
  `
  CREATE TABLE ${s}.waiters (
    execution_id uuid NOT NULL,
    process text NOT NULL,
    PRIMARY KEY (execution_id, process)
  )
  `,

  // Whose key it is. A row holds as long as the record it names, or until \`expires_at\`.
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

  // A grouped write leaves its token here, so that repeating it after a lost acknowledgement does nothing.
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
    epoch integer NOT NULL,
    submission_id text NOT NULL,
    protocol integer NOT NULL,
    secret text NOT NULL,
    host text,
    port integer,
    opened_at timestamptz NOT NULL,
    PRIMARY KEY (deployment, cluster, epoch),
    CONSTRAINT gateways_address_is_whole CHECK ((host IS NULL) = (port IS NULL))
  )
  `
]

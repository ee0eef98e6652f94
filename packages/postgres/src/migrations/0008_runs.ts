/**
 * Workflow runs.
 *
 * A run is an execution that can wait. Its row keeps its id; `key` is the id by which its program knows it.
 */

/** Functions whose parameters or results change. */
const gone = ["tick", "register"]

/** The statements, in order, for a schema with this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  ...gone.map((name) => `DROP FUNCTION IF EXISTS ${s}.${name}`),

  // Every run that has a record, so that a start is one lookup and not one in each partition of history.
  `CREATE TABLE ${s}.runs (id uuid PRIMARY KEY)`,

  // Which process a supervisor is in.
  `ALTER TABLE ${s}.supervisors ADD COLUMN process ${s}.process`,

  // `held`: why it waits for a person. `home`: the supervisor whose process may have it in memory. `link`: how often it has continued as
  // new, and once more; the last time at `link_at`. `expires_at`: when it is interrupted.
  `
  ALTER TABLE ${s}.executions
    ADD COLUMN held ${s}.label,
    ADD COLUMN home uuid,
    ADD COLUMN link ${s}.tally NOT NULL DEFAULT 1,
    ADD COLUMN link_at ${s}.moment,
    ADD COLUMN expires_at ${s}.moment
  `,
  `DROP INDEX ${s}.executions_to_wake`,
  `CREATE INDEX executions_to_continue ON ${s}.executions (lane, run_at) WHERE state = 'waiting' AND held IS NULL`,

  // What open runs were told, in order. Written by their owners only.
  `
  CREATE TABLE ${s}.journal (
    run uuid NOT NULL,
    seq integer NOT NULL,
    key ${s}.label NOT NULL,
    outside boolean NOT NULL,
    value ${s}.result NOT NULL,
    at ${s}.moment NOT NULL,
    PRIMARY KEY (run, seq)
  )
  `,

  // The journal of a run that is over: a JSON array. A link that has continued as new has an id of its own, and the run's.
  `ALTER TABLE ${s}.history ADD COLUMN journal text, ADD COLUMN run uuid, ADD COLUMN link integer`,
  `ALTER TABLE ${s}.history DROP CONSTRAINT history_state_is_terminal`,
  // What is stored already fits.
  `
  ALTER TABLE ${s}.history ADD CONSTRAINT history_state_is_terminal CHECK (
    state IN ('succeeded', 'failed', 'cancelled', 'expired', 'lost', 'terminated', 'continued')
  ) NOT VALID
  `,

  // Messages to runs, which need not exist yet. Anyone appends; a run's owner deletes what it has moved to the journal.
  `
  CREATE TABLE ${s}.inbox (
    run uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    key ${s}.label NOT NULL,
    value ${s}.result NOT NULL,
    at ${s}.moment NOT NULL,
    PRIMARY KEY (run, id)
  ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0)
  `,

  // Runs to look at because of a message. Written with the message and applied after the commit, because a run that is
  // just about to wait cannot see what is not committed.
  `
  CREATE TABLE ${s}.wakes (run uuid NOT NULL)
  WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0)
  `,

  // Runs that are to get a message when an execution ends that existed before. Applied like wakes.
  `CREATE TABLE ${s}.joins (execution_id uuid NOT NULL, run uuid NOT NULL)`,

  // Either a process or a run waits.
  `ALTER TABLE ${s}.waiters DROP CONSTRAINT waiters_pkey`,
  `ALTER TABLE ${s}.waiters ALTER COLUMN process DROP NOT NULL, ADD COLUMN run uuid`,
  `ALTER TABLE ${s}.waiters ADD CONSTRAINT waiters_process_or_run CHECK ((process IS NULL) <> (run IS NULL))`,
  `CREATE UNIQUE INDEX waiters_once ON ${s}.waiters (execution_id, process, run) NULLS NOT DISTINCT`
]

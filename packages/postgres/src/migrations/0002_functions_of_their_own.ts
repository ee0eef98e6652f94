/**
 * Functions are no longer part of migrations, see `internal/functions.ts`. This drops those that the first migration
 * made, and a second name for the priority.
 */

/** Functions whose signature stays the same are replaced in place. */
const gone = [
  "attempts_of",
  "cancel",
  "cancelling",
  "claim",
  "enqueue",
  "enqueue_keyed",
  "ensure_partitions",
  "find",
  "find_ended",
  "hold",
  "note_lanes",
  "owned",
  "owned_ids",
  "register",
  "retake",
  "set_aside",
  "settle",
  "tell",
  "tick",
  "unregister",
  "unserved",
  "watch"
]

/** The statements, in order, for a schema with this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  ...gone.map((name) => `DROP FUNCTION IF EXISTS ${s}.${name}`),
  `
  CREATE TABLE ${s}.functions (
    name text PRIMARY KEY,
    hash text NOT NULL,
    version text NOT NULL
  )
  `,
  `DROP INDEX ${s}.executions_to_claim`,
  `ALTER TABLE ${s}.executions DROP COLUMN band`,
  `CREATE INDEX executions_to_claim ON ${s}.executions (lane, priority, run_at, id) WHERE state = 'queued'`,
  `ALTER DOMAIN ${s}.band RENAME CONSTRAINT band_in_range TO priority_in_range`,
  `ALTER DOMAIN ${s}.band RENAME TO priority`
]

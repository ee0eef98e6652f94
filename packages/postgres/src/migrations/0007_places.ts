/** A place is called one everywhere; of what has not ended, none is kept. */

/** The statements, in order, for a schema of this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  `ALTER TABLE ${s}.executions DROP COLUMN runner_ref`,
  `ALTER TABLE ${s}.history RENAME COLUMN runner_ref TO place`,
  `ALTER TABLE ${s}.attempts RENAME COLUMN runner_ref TO place`
]

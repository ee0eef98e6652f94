/** Since when a supervisor can have no process for what it holds back, in place of whether it has given up. */

/** The statements, in order, for a schema of this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  `ALTER TABLE ${s}.holds DROP COLUMN given_up, ADD COLUMN failing_since ${s}.moment`
]

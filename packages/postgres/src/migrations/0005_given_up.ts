/** Whether a supervisor has given up on a process for what it holds back. */

/** The statements, in order, for a schema with this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  `ALTER TABLE ${s}.holds ADD COLUMN given_up boolean NOT NULL DEFAULT false`
]

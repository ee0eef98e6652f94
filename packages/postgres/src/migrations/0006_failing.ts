/** Since when a supervisor is failing for what it holds back. Replaces whether it has given up. */

/** The statements, in order, for a schema with this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  `ALTER TABLE ${s}.holds DROP COLUMN given_up, ADD COLUMN failing_since ${s}.moment`
]

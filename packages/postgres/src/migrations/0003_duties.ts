/** Tables of the upkeep. */

/** The statements, in order, for a schema with this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  // When the next turn of each duty can be taken. A duty whose turn was never taken has no row.
  `CREATE TABLE ${s}.duties (name text PRIMARY KEY, next_at ${s}.moment NOT NULL)`,

  // Partitions of history that are about to be dropped, and the id up to which what belongs to them is gone.
  `CREATE TABLE ${s}.drops (leaf text PRIMARY KEY, after_id uuid NOT NULL)`
]

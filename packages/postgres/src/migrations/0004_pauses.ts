/** Paused queues and tasks, by name, whether or not they have executions. */

/** The statements, in order, for a schema with this (quoted) name. */
export const statements = (s: string): ReadonlyArray<string> => [
  `
  CREATE TABLE ${s}.pauses (
    kind text NOT NULL,
    name ${s}.name NOT NULL,
    paused_at ${s}.moment NOT NULL,
    PRIMARY KEY (kind, name),
    CONSTRAINT pauses_kind_is_known CHECK (kind IN ('queue', 'task'))
  )
  `,
  `ALTER TABLE ${s}.lanes DROP COLUMN paused`
]

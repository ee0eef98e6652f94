/**
 * The first schema. Append-only: what it says is never changed, later migrations change the result.
 */
import { claim } from "./initial/claim.ts"
import { enqueue } from "./initial/enqueue.ts"
import { history } from "./initial/history.ts"
import { look } from "./initial/look.ts"
import { retake } from "./initial/retake.ts"
import { settle } from "./initial/settle.ts"
import { tables } from "./initial/tables.ts"

/** The statements, in order, for a schema of this (quoted) name. */
export const statements = (schema: string): ReadonlyArray<string> => [
  ...tables(schema),
  ...history(schema),
  ...enqueue(schema),
  ...claim(schema),
  ...settle(schema),
  ...retake(schema),
  ...look(schema),
  // Only who is granted them may call them: docs/roles.md.
  `REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA ${schema} FROM PUBLIC`
]

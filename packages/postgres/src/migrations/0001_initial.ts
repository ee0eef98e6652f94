/** The first tables. Append-only: this text never changes, and later migrations change the result. */
import { history } from "./initial/history.ts"
import { tables } from "./initial/tables.ts"

/** The statements, in order, for a schema with this (quoted) name. */
export const statements = (schema: string): ReadonlyArray<string> => [...tables(schema), ...history(schema)]

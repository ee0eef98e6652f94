/** The schema's name in SQL, and the names derived from it. */
import { createHash } from "node:crypto"

/** The default schema. */
export const defaultSchema = "effect_ray"

/** The name in quotes, to insert into SQL as it is. Throws on a name that is not plain. */
export const quote = (schema: string): string => {
  if (/^[a-z_][a-z0-9_]{0,39}$/.test(schema)) return `"${schema}"`
  throw new Error(
    `"${schema}" cannot name the schema: use 1 to 40 lower-case letters, digits and underscores, and no digit first`
  )
}

/** The channel of all processes of this schema. The channel of one process adds `_` and the process's name. */
export const channelOf = (schema: string): string =>
  `effect_ray_${createHash("sha256").update(schema).digest("hex").slice(0, 12)}`

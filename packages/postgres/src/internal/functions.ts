/**
 * The current text of the schema's functions.
 *
 * Each function is a file in `schema/` and is applied again whenever its text has changed. A function whose parameters
 * or result change gets a new name, so that workers of the previous release continue beside it.
 */
import { createHash } from "node:crypto"
import compare from "semver/functions/compare.js"
import { functions, version } from "../schema/embedded.ts"

/**
 * A function runs as the schema's owner, so a role that may call it needs no right to any table: see `docs/roles.md`.
 * Arguments never become part of a statement, and names are resolved where no other role can create any.
 */
const safe = `SECURITY DEFINER
SET search_path = pg_catalog, pg_temp`

/**
 * Statements whose plan must not depend on statistics are functions. A queue's table can be empty one moment and hold a
 * million rows the next, and a plan that was cached for the empty table reads all of it. Inside a function the planner
 * can be told not to do that, on any pool and behind any pgbouncer.
 */
const pinned = `${safe}
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off`

/** Replaces the words in braces in a file. */
const render = (text: string, schema: string): string =>
  text.replaceAll("{schema}", schema).replace("{safe}", safe).replace("{pinned}", pinned).replace(/;\s*$/, "")

/** A function that has been applied to the schema. */
export interface Applied {
  readonly name: string
  readonly hash: string
  /** The version of this package that applied it. */
  readonly version: string
}

const hashOf = (text: string): string => createHash("sha256").update(render(text, "")).digest("hex").slice(0, 32)

/** Functions that the body of another one calls, which is parsed when that one is made. */
const first = ["now"]

const all = Object.entries(functions)
  .map(([name, text]) => ({ name, text, hash: hashOf(text) }))
  .sort((a, b) => Number(first.includes(b.name)) - Number(first.includes(a.name)))

/** Names of the functions that are missing or differ from this version. Functions of a later version stay. */
export const pending = (applied: ReadonlyArray<Applied>): ReadonlyArray<string> =>
  all.filter(({ hash, name }) => {
    const found = applied.find((one) => one.name === name)
    return found === undefined || (found.hash !== hash && compare(found.version, version) <= 0)
  }).map(({ name }) => name)

/** The statements that apply these functions to a schema with this (quoted) name. */
export const statements = (schema: string, names: ReadonlyArray<string>): ReadonlyArray<string> =>
  all.filter(({ name }) => names.includes(name)).flatMap(({ hash, name, text }) => [
    render(text, schema),
    `INSERT INTO ${schema}.functions (name, hash, version) VALUES ('${name}', '${hash}', '${version}')
ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, version = excluded.version`
  ])

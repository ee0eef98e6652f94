/**
 * The functions of the schema: their text as it is now.
 *
 * Each is a file in `schema/`, applied again whenever its text has changed. A change of what a function takes or returns
 * gets a new name, so that workers of the release before go on beside it.
 */
import { createHash } from "node:crypto"
import compare from "semver/functions/compare.js"
import { functions, version } from "../schema/embedded.ts"

/**
 * A function runs as the schema's owner, so a role that may call it needs no right to any table: `docs/roles.md`.
 * Nothing that it is given becomes part of a statement, and names are looked up where no other role can put any.
 */
const safe = `SECURITY DEFINER
SET search_path = pg_catalog, pg_temp`

/**
 * The statements whose plan must not be left to statistics are functions. A queue's table is empty one moment and holds
 * a million rows the next, and a cached plan made for the empty table reads all of it. Inside a function the planner can
 * be told not to, on any pool and behind any pgbouncer.
 */
const pinned = `${safe}
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
SET jit = off`

/** What stands in braces in a file. */
const render = (text: string, schema: string): string =>
  text.replaceAll("{schema}", schema).replace("{safe}", safe).replace("{pinned}", pinned).replace(/;\s*$/, "")

/** A function as the schema has it. */
export interface Applied {
  readonly name: string
  readonly hash: string
  /** The version of this package that applied it. */
  readonly version: string
}

const hashOf = (text: string): string => createHash("sha256").update(render(text, "")).digest("hex").slice(0, 32)

/** Those that the body of another one, which is read when that is made, calls. */
const first = ["now"]

const all = Object.entries(functions)
  .map(([name, text]) => ({ name, text, hash: hashOf(text) }))
  .sort((a, b) => Number(first.includes(b.name)) - Number(first.includes(a.name)))

/** Names of the functions that are missing, or not as this version has them. What a later version applied stays. */
export const pending = (applied: ReadonlyArray<Applied>): ReadonlyArray<string> =>
  all.filter(({ hash, name }) => {
    const found = applied.find((one) => one.name === name)
    return found === undefined || (found.hash !== hash && compare(found.version, version) <= 0)
  }).map(({ name }) => name)

/** What applies these functions to a schema of this (quoted) name. */
export const statements = (schema: string, names: ReadonlyArray<string>): ReadonlyArray<string> =>
  all.filter(({ name }) => names.includes(name)).flatMap(({ hash, name, text }) => [
    render(text, schema),
    `INSERT INTO ${schema}.functions (name, hash, version) VALUES ('${name}', '${hash}', '${version}')
ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, version = excluded.version`
  ])

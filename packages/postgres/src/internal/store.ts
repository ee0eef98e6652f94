/** What every verb of the Postgres broker works with. */
import type { PgClient } from "@effect/sql-pg/PgClient"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type * as Duration from "effect/Duration"
import * as Result from "effect/Result"
import type * as Statement from "effect/sql/Statement"
import * as Crypto from "node:crypto"
import { type Answered, makeAnswered } from "./answered.ts"
import { channelOf, quote } from "./schemaName.ts"

export interface Store {
  /** The app's own client, so that its transactions are ours; its name transforms are not. */
  readonly sql: PgClient
  /** The schema, quoted, for a template. */
  readonly s: Statement.Fragment
  /** The channel of every process. */
  readonly channel: string
  /** A statement with a bound to the waiting. */
  readonly answered: Answered
  /** This process's name: what its own channel adds, and what `waiters` holds. */
  readonly process: string
}

export const makeStore = (client: PgClient, schema: string, patience: Duration.Duration): Store => {
  const sql = client.withoutTransforms()
  return {
    sql,
    s: sql.literal(quote(schema)),
    channel: channelOf(schema),
    answered: makeAnswered(patience),
    process: Crypto.randomBytes(8).toString("hex")
  }
}

const array = (oid: number) => (values: ReadonlyArray<unknown>): PgTypes.Parameter =>
  Result.getOrThrow(PgTypes.array(values, oid))

/** Array parameters in binary, whatever they hold. */
export const arrays = {
  bool: array(PgTypes.OID.bool),
  float8: array(PgTypes.OID.float8),
  int2: array(PgTypes.OID.int2),
  int4: array(PgTypes.OID.int4),
  int8: array(PgTypes.OID.int8),
  text: array(PgTypes.OID.text),
  uuid: array(PgTypes.OID.uuid)
}

/** The nil UUID, below every other. */
export const nil = "00000000-0000-0000-0000-000000000000"

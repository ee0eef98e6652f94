/** Classifies a failed statement by its SQLSTATE. */
import { BadData, BrokerError, Unavailable } from "@effect-ray/core/BrokerError"
import { ParseError } from "@effect/sql-pg/PgProtocol"
import { CodecError } from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { SqlError } from "effect/sql/SqlError"

/** The SQLSTATE, five characters; undefined if the failure did not come from the server. */
export const sqlState = (error: SqlError): string | undefined => {
  const cause = error.reason.cause
  if (typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string") {
    // "EPIPE" is not one.
    return /^(?=.*\d)[0-9A-Z]{5}$/.test(cause.code) ? cause.code : undefined
  }
  return undefined
}

/**
 * Whether the same statement may succeed a moment later: a lost or refused connection, a server that stops or starts, a
 * deadlock, a serialization failure, no free connection, or a connection to a server that no longer takes writes.
 */
export const isTransient = (error: SqlError): boolean => {
  const state = sqlState(error)
  if (state === undefined) return error.reason._tag === "ConnectionError" && !isUnreadable(error)
  return state.startsWith("08") || state.startsWith("57P") || state === "40001" || state === "40P01" ||
    state === "53300" || isReadOnly(error)
}

/** The connection leads to a server that does not take writes. */
export const isReadOnly = (error: SqlError): boolean => sqlState(error) === "25006"

/** A response that the driver does not accept: larger than its messages may be, or with an unknown value. */
const isUnreadable = ({ reason: { cause } }: SqlError): boolean =>
  cause instanceof CodecError || (cause instanceof ParseError && cause.message.includes("exceeds maxMessageSize"))

/** A value that Postgres or the driver does not accept: in a batch, the fault of one row. */
export const isBadValue = (error: SqlError): boolean =>
  (/^(22|23|54)/.test(sqlState(error) ?? "") || isUnreadable(error)) && !isWithoutPartition(error)

/**
 * History has no partition for today. Postgres has no code of its own for that; when a constraint fails, it names the
 * constraint.
 */
export const isWithoutPartition = (error: SqlError): boolean => {
  const { cause } = error.reason
  return sqlState(error) === "23514" && typeof cause === "object" && cause !== null &&
    !("constraint" in cause && typeof cause.constraint === "string")
}

export const isLockTimeout = (error: SqlError): boolean => sqlState(error) === "55P03"

/** Postgres' own message, without the statement. */
export const wordsOf = (error: SqlError): string => {
  const cause = error.reason.cause
  const words = typeof cause === "object" && cause !== null && "message" in cause
    ? String(cause.message)
    : error.message
  const state = sqlState(error)
  return state === undefined ? words : `${words} (${state})`
}

/** The schema, table or function does not exist: the schema was not migrated, or not far enough. */
const isBehind = (error: SqlError): boolean => /^(3F000|42P01|42883)$/.test(sqlState(error) ?? "")

/** The role may not call the function, or read the table. */
const isDenied = (error: SqlError): boolean => sqlState(error) === "42501"

/** The boundary: a failed statement becomes `Unavailable`, or `BadData` if retrying cannot help. */
export const unavailable = (operation: string) => (error: SqlError): BrokerError => {
  if (isBadValue(error)) return new BrokerError({ reason: new BadData({ operation, detail: wordsOf(error) }) })
  const hint = isBehind(error) ? "; run `effect-ray migrate`" : isDenied(error) ? "; see docs/roles.md" : ""
  return new BrokerError({ reason: new Unavailable({ operation, detail: wordsOf(error) + hint }) })
}

/** About two seconds. A statement that had no response for a long time is sent once more. */
const backoff = Schedule.min([Schedule.exponential("20 millis"), Schedule.spaced("500 millis")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ duration: "2 seconds", times: 7 })
)

/** Retries on a server with temporary problems. For statements that may be repeated. */
export const retryTransient = <A, R>(effect: Effect.Effect<A, SqlError, R>): Effect.Effect<A, SqlError, R> =>
  Effect.catch(effect, (error) =>
    isTransient(error)
      ? Effect.retry(effect, { schedule: backoff, while: isTransient })
      : Effect.fail(error))

/** Calls of `enqueue`: what belongs together, and what an idempotency key makes of it. */
import type { Enqueued, NewExecution } from "@effect-ray/core/Broker"
import { BrokerError, KeyConflict, Unavailable } from "@effect-ray/core/BrokerError"
import { identity } from "@effect-ray/core/BrokerInput"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { createHash } from "node:crypto"

/** One call of `enqueue`, after keys that occur twice in it have been joined. */
export interface Call {
  /** What is to be stored. */
  readonly executions: ReadonlyArray<NewExecution>
  /** For each execution given, in order, the one that stands for it. */
  readonly standing: ReadonlyArray<NewExecution>
  readonly given: ReadonlyArray<NewExecution>
}

/** The answer of one call. */
export type Answer = Exit.Exit<ReadonlyArray<Enqueued>, BrokerError>

/** Who holds a key, as the store says. */
export interface Holder {
  readonly holder: string
  readonly same_payload: boolean
}

/** What makes two executions one; none without a key. */
export const markOf = (execution: NewExecution): string | undefined =>
  Option.isSome(execution.idempotencyKey) ? `${execution.task}\u0000${execution.idempotencyKey.value.key}` : undefined

/** Tells whether two payloads under one key are the same, as a UUID column. */
export const digestOf = (execution: NewExecution): string =>
  createHash("sha256").update(identity(execution)).digest("hex").replace(
    /^(.{8})(.{4})(.{4})(.{4})(.{12}).*$/,
    "$1-$2-$3-$4-$5"
  )

const conflict = (execution: NewExecution, holder: string): BrokerError =>
  new BrokerError({
    reason: new KeyConflict({
      task: execution.task,
      key: Option.match(execution.idempotencyKey, { onNone: () => "", onSome: ({ key }) => key }),
      executionId: holder
    })
  })

/** Joins what one key makes one; two payloads under one key are a conflict at once. */
export const makeCall = (given: ReadonlyArray<NewExecution>): Call | BrokerError => {
  if (given.every((execution) => Option.isNone(execution.idempotencyKey))) {
    return { executions: given, standing: given, given }
  }
  const first = new Map<string, NewExecution>()
  const executions: Array<NewExecution> = []
  const standing: Array<NewExecution> = []
  for (const execution of given) {
    const mark = markOf(execution)
    const earlier = mark === undefined ? undefined : first.get(mark)
    if (earlier !== undefined && identity(earlier) !== identity(execution)) return conflict(execution, earlier.id)
    if (earlier === undefined) {
      executions.push(execution)
      if (mark !== undefined) first.set(mark, execution)
    }
    standing.push(earlier ?? execution)
  }
  return { executions, standing, given }
}

/** The answer of a call without keys. */
export const stored = (call: Call): Answer => Exit.succeed(call.given.map(({ id }) => ({ id, deduplicated: false })))

/** The answer of a call with keys, from who holds them now. */
export const answer = (call: Call, holders: ReadonlyMap<NewExecution, Holder>): Answer => {
  const enqueued: Array<Enqueued> = []
  for (const [index, execution] of call.standing.entries()) {
    if (Option.isNone(execution.idempotencyKey)) {
      enqueued.push({ id: execution.id, deduplicated: false })
      continue
    }
    const found = holders.get(execution)
    if (found === undefined) {
      // Its holder's record was dropped, between two statements.
      return Exit.fail(
        new BrokerError({ reason: new Unavailable({ operation: "enqueue", detail: "the key changed hands" }) })
      )
    }
    if (!found.same_payload) return Exit.fail(conflict(execution, found.holder))
    enqueued.push({ id: found.holder, deduplicated: found.holder !== call.given[index]!.id })
  }
  return Exit.succeed(enqueued)
}

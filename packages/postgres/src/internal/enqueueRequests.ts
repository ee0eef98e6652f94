/** The requests to enqueue: how idempotency keys join their executions, and what each request returns. */
import type { Enqueued, NewExecution } from "@effect-ray/core/Broker"
import { BrokerError, KeyConflict, Unavailable } from "@effect-ray/core/BrokerError"
import { identity } from "@effect-ray/core/BrokerInput"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import { createHash } from "node:crypto"

/** The executions of one caller, with those joined that have the same key. */
export interface EnqueueRequest {
  /** What to store. */
  readonly executions: ReadonlyArray<NewExecution>
  /** For each given execution, in order, the one that is stored for it. */
  readonly standing: ReadonlyArray<NewExecution>
  readonly given: ReadonlyArray<NewExecution>
}

/** What one request returns. */
export type EnqueueResult = Exit.Exit<ReadonlyArray<Enqueued>, BrokerError>

/** The execution that has a key, as the store returns it. */
export interface Holder {
  readonly holder: string
  readonly same_payload: boolean
}

/** Two executions with the same mark are one; undefined without a key. */
export const markOf = (execution: NewExecution): string | undefined =>
  Option.isSome(execution.idempotencyKey) ? `${execution.task}\u0000${execution.idempotencyKey.value.key}` : undefined

/** A digest of the payload, as a UUID column, to compare two payloads under one key. */
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

/** Joins executions with the same key. Two payloads under one key are a conflict at once. */
export const makeRequest = (given: ReadonlyArray<NewExecution>): EnqueueRequest | BrokerError => {
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

/** The result of a request without keys. */
export const stored = (request: EnqueueRequest): EnqueueResult =>
  Exit.succeed(request.given.map(({ id }) => ({ id, deduplicated: false })))

/** The result of a request with keys, given the executions that have them now. */
export const resultOf = (request: EnqueueRequest, holders: ReadonlyMap<NewExecution, Holder>): EnqueueResult => {
  const enqueued: Array<Enqueued> = []
  for (const [index, execution] of request.standing.entries()) {
    if (Option.isNone(execution.idempotencyKey)) {
      enqueued.push({ id: execution.id, deduplicated: false })
      continue
    }
    const found = holders.get(execution)
    if (found === undefined) {
      // The record of the execution with the key was dropped between two statements.
      return Exit.fail(
        new BrokerError({
          reason: new Unavailable({
            operation: "enqueue",
            detail: "the execution with the idempotency key was dropped meanwhile"
          })
        })
      )
    }
    if (!found.same_payload) return Exit.fail(conflict(execution, found.holder))
    enqueued.push({ id: found.holder, deduplicated: found.holder !== request.given[index]!.id })
  }
  return Exit.succeed(enqueued)
}

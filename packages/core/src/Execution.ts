/**
 * A handle on one enqueued run of a task.
 *
 * The handle holds little more than an id: another process makes an equal one with
 * `Task.execution(task, id)`. What it returns is read from the row.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Broker from "./Broker.ts"
import { BrokerError, InvalidId } from "./BrokerError.ts"
import * as Envelope from "./Envelope.ts"
import type { Any } from "./Definition.ts"
import * as TaskError from "./TaskError.ts"

/** A handle on an execution: awaits its end, polls it, cancels it. @category models */
export interface Execution<out A, out E, out R = never> {
  /** The execution's id, a UUID. */
  readonly id: Broker.ExecutionId
  /** Whether the idempotency key was already known, so that this is the existing execution. */
  readonly deduplicated: boolean
  /**
   * Waits for the end: the task's success, its declared error, or a `TaskError` with the reason. Call it after the
   * commit: inside the transaction that enqueues it, the execution is visible to no one else and counts as lost.
   */
  readonly await: Effect.Effect<A, E | TaskError.TaskError | BrokerError, R>
  /** The end, or `None` if the execution has not ended. Returns at once. */
  readonly poll: Effect.Effect<Option.Option<Exit.Exit<A, E | TaskError.TaskError>>, BrokerError, R>
  /**
   * `Cancelled`: it was queued. `Requested`: it is running, and `await` says how it ends. `TooLate`: it has ended, or
   * is unknown.
   *
   * Inside a transaction it takes effect at once, over a connection of the broker's own, and survives a rollback. Only
   * executions that the transaction itself has enqueued are cancelled within it.
   */
  readonly cancel: Effect.Effect<"Cancelled" | "Requested" | "TooLate", BrokerError>
}

/**
 * A handle on an execution of `T`.
 *
 * @category utility types
 */
export type Of<T extends Any> = Execution<
  T["successSchema"]["Type"],
  T["errorSchema"]["Type"],
  T["successSchema"]["DecodingServices"]
>

/** @internal */
export const make = <T extends Any>(
  task: T,
  broker: Broker.Broker["Service"],
  id: Broker.ExecutionId,
  deduplicated: boolean
): Of<T> => {
  const fail = (reason: TaskError.Reason) => new TaskError.TaskError({ task: task._tag, executionId: id, reason })
  const exitOf = (record: Broker.Record): Effect.Effect<Exit.Exit<unknown, unknown>, never, unknown> =>
    Option.match(record.result, {
      onNone: () => Effect.succeed<Exit.Exit<unknown, unknown>>(Exit.fail(fail(reasonOf(record.state)))),
      onSome: (envelope): Effect.Effect<Exit.Exit<unknown, unknown>, never, unknown> =>
        Envelope.decode({
          task: task._tag,
          executionId: id,
          successSchema: task.successSchema,
          errorSchema: task.errorSchema,
          envelope,
          format: record.format
        })
    })
  // A result of another task might fit this task's Schema by chance.
  const ofThisTask = (record: Broker.Record): Effect.Effect<Broker.Record, BrokerError> =>
    record.task === task._tag ? Effect.succeed(record) : Effect.fail(
      new BrokerError({
        reason: new InvalidId({ task: task._tag, id, detail: `is the id of an execution of ${record.task}` })
      })
    )
  const unknown = () =>
    fail(new TaskError.Lost({ detail: "this id is unknown: it was never committed, or is past its retention" }))
  return {
    id,
    deduplicated,
    await: Effect.flatMap(
      broker.awaitTerminal(id),
      Option.match({
        onNone: () => Effect.fail(unknown()),
        onSome: (record) => Effect.flatten(Effect.flatMap(ofThisTask(record), exitOf))
      })
    ),
    poll: Effect.flatMap(
      broker.read(id),
      Option.match({
        onNone: () => Effect.succeedNone,
        onSome: (found) =>
          Effect.flatMap(
            ofThisTask(found),
            (record) => isTerminal(record.state) ? Effect.asSome(exitOf(record)) : Effect.succeedNone
          )
      })
    ),
    cancel: broker.cancel(id)
  } as Of<T>
}

/**
 * Whether a state is final.
 *
 * @category guards
 */
export const isTerminal = (state: Broker.State): boolean =>
  state === "succeeded" || state === "failed" || state === "cancelled" || state === "expired" || state === "lost"
  || state === "terminated"

const reasonOf = (state: Broker.State): TaskError.Reason => {
  if (state === "cancelled") return new TaskError.Cancelled({ confirmed: true })
  if (state === "expired") return new TaskError.Expired()
  return new TaskError.Lost({ detail: `recorded as ${state}, without a result` })
}

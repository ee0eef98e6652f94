/** Cancels an execution at once, whatever happens to the caller's transaction. */
import type { ExecutionId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { Ask } from "./ask.ts"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { isLockTimeout, unavailable } from "./sqlFailure.ts"
import type { Store } from "./store.ts"

/**
 * How to try again while another transaction holds the execution. In between, the connection is free for others: pauses,
 * duties and awaited ends use the same few.
 */
const untilFree = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("1 second")]).pipe(
  Schedule.jittered,
  Schedule.upTo({ duration: "15 seconds" })
)

type Answer = "Cancelled" | "Requested" | "TooLate"

export const makeCancel = (store: Store, notifier: Notifier, partitions: Partitions) => {
  const { s } = store

  const cancel = (ask: Ask, id: ExecutionId): Effect.Effect<Answer, BrokerError> =>
    partitions.filing(
      ask((sql) =>
        Effect.tap(
          sql<Woken & { readonly answer: Answer }>`SELECT * FROM ${s}.cancel(${id}, ${Endings.cancelled})`,
          ([row]) =>
            sql.afterCommit(Effect.sync(() => {
              if (row!.answer === "Requested") notifier.cancelling([id])
              notifier.woken(row!)
            }))
        )
      ),
      ask
    ).pipe(
      Effect.retry({ schedule: untilFree, while: isLockTimeout }),
      Effect.mapError(unavailable("cancel")),
      Effect.map(([row]) => row!.answer)
    )

  return (id: ExecutionId): Effect.Effect<Answer, BrokerError> =>
    Effect.contextWith((context: Context.Context<never>) => {
      if (!isUuid(id)) return Effect.succeed("TooLate")
      const asked = cancel(store.beside, id)
      if (Context.getOrUndefined(context, store.sql.transactionService) === undefined) return asked
      // Inside the transaction, the row would stay locked until it ends, and with it every settlement in its batch.
      // Only executions that the transaction itself has enqueued are cancelled inside it.
      return Effect.flatMap(
        asked,
        (answer) => answer === "TooLate" ? cancel(store.ask, id) : Effect.succeed(answer)
      )
    })
}

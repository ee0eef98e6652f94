/** Records how attempts ended, many in one statement. The statement resolves races. */
import type { Settled, Settlement, SupervisorId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid, printable, storable, storedMillis } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import { Outcome } from "@effect-ray/core/Outcome"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { SqlError } from "effect/sql/SqlError"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { isBadValue, isLockTimeout, retryTransient, unavailable, wordsOf } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** An outcome as columns. `flag` is `counted` for a loss, and `confirmed` for everything else that was stopped. */
interface Columns {
  readonly kind: string
  readonly result: string | null
  readonly delay: number
  readonly flag: boolean
}

const columnsOf: (outcome: Outcome) => Columns = Outcome.$match({
  Succeeded: ({ result }) => ({ kind: "succeeded", result, delay: 0, flag: true }),
  Retry: ({ confirmed, delay, result }) => ({
    kind: "retry",
    result,
    delay: storedMillis(delay),
    flag: confirmed
  }),
  Failed: ({ result }) => ({ kind: "failed", result, delay: 0, flag: true }),
  TimedOut: ({ confirmed, result }) => ({ kind: "timed_out", result, delay: 0, flag: confirmed }),
  Cancelled: ({ confirmed }) => ({ kind: "cancelled", result: null, delay: 0, flag: confirmed }),
  Released: () => ({ kind: "released", result: null, delay: 0, flag: true }),
  Returned: () => ({ kind: "returned", result: null, delay: 0, flag: true }),
  Lost: ({ counted, final, result }) => ({ kind: final ? "lost_final" : "lost", result, delay: 0, flag: counted })
})

/** The longest place that is stored, in characters. */
const maxPlaceLength = 1_000

/** The place, for people. An invalid one must not change how the attempt ended. */
const placeOf = (place: Option.Option<string>): string | null =>
  Option.match(place, {
    onNone: () => null,
    onSome: (place) => printable(place, maxPlaceLength)
  })

/** What is settled if Postgres refuses even what can be stored: it contains nothing of the caller's. */
const harmless = (settlement: Settlement): Settlement => {
  const { outcome } = settlement
  return {
    ...settlement,
    place: Option.none(),
    outcome: !("result" in outcome) ? outcome : Outcome.Failed({ result: Endings.unstorable })
  }
}

/**
 * The attempt has ended all the same, and must not run again: the execution stays with its owner until that one leaves.
 */
const tellLost = ({ id }: Settlement, error: SqlError): Effect.Effect<void> =>
  Effect.annotateLogs(Effect.logError("the end of an attempt could not be recorded"), {
    execution: id,
    error: wordsOf(error)
  })

export const makeSettle = (store: Store, notifier: Notifier, partitions: Partitions) => {
  const { s } = store

  /** In the order of ids, in which every statement locks rows. */
  const statement = (supervisor: SupervisorId, given: ReadonlyArray<Settlement>, passLocked: boolean) => {
    const positions = given.map((_, index) => index).sort((a, b) => given[a]!.id < given[b]!.id ? -1 : 1)
    const settlements = positions.map((position) => given[position]!)
    const columns = settlements.map(({ outcome }) => columnsOf(storable(outcome)))
    return Effect.map(
      store.own(
        (sql) =>
          sql<Woken & { readonly lease_lost: ReadonlyArray<number> | null; readonly locked: ReadonlyArray<number> }>`
        SELECT * FROM ${s}.settle(
          ${supervisor},
          ${arrays.uuid(settlements.map(({ id }) => id))},
          ${arrays.int8(settlements.map(({ fence }) => BigInt(fence)))},
          ${arrays.text(columns.map(({ kind }) => kind))},
          ${arrays.text(columns.map(({ result }) => result))},
          ${arrays.float8(columns.map(({ delay }) => delay))},
          ${arrays.bool(columns.map(({ flag }) => flag))},
          ${arrays.text(settlements.map(({ place }) => placeOf(place)))},
          ${Endings.cancelled}, ${Endings.unconfirmed}, ${passLocked}
        )
      `,
        { characters: columns.reduce((sum, { result }) => sum + (result?.length ?? 0), 0) }
      ),
      ([row]): ReadonlyArray<Settled> => {
        notifier.woken(row!)
        const answers = given.map((): Settled => "Settled")
        for (const ord of row!.lease_lost ?? []) answers[positions[ord - 1]!] = "LeaseLost"
        for (const ord of row!.locked) answers[positions[ord - 1]!] = "Locked"
        return answers
      }
    )
  }

  /** Skips rows that other transactions hold, so that the rest need not wait. */
  const pass = (supervisor: SupervisorId, settlements: ReadonlyArray<Settlement>) =>
    retryTransient(
      Effect.catchIf(
        statement(supervisor, settlements, false),
        isLockTimeout,
        () => statement(supervisor, settlements, true)
      )
    )

  /** Halves the batch until the settlement that cannot be stored is alone, and settles that one as failed. */
  const settle = (
    supervisor: SupervisorId,
    settlements: ReadonlyArray<Settlement>,
    last = false
  ): Effect.Effect<ReadonlyArray<Settled>, SqlError> =>
    Effect.catch(partitions.filing(pass(supervisor, settlements)), (error) => {
      if (!isBadValue(error)) return Effect.fail(error)
      if (last) return Effect.as(tellLost(settlements[0]!, error), ["Settled"])
      if (settlements.length === 1) return settle(supervisor, settlements.map(harmless), true)
      const middle = Math.ceil(settlements.length / 2)
      return Effect.zipWith(
        settle(supervisor, settlements.slice(0, middle)),
        settle(supervisor, settlements.slice(middle)),
        (first, second) => [...first, ...second]
      )
    })

  return (
    supervisor: SupervisorId,
    settlements: ReadonlyArray<Settlement>
  ): Effect.Effect<ReadonlyArray<Settled>, BrokerError> => {
    if (settlements.length === 0) return Effect.succeed([])
    // Ids and fences come from claims. No supervisor owns anything else.
    const known = settlements.filter(({ fence, id }) => isUuid(id) && Number.isSafeInteger(fence))
    const answer = known.length === 0 || !isUuid(supervisor)
      ? Effect.succeed([])
      : settle(supervisor, known)
    return answer.pipe(
      Effect.mapError(unavailable("settle")),
      Effect.map((answers) => {
        if (known.length === settlements.length && answers.length > 0) return answers
        const byPosition = new Map(answers.map((answer, index) => [known[index]!, answer]))
        return settlements.map((settlement) => byPosition.get(settlement) ?? "LeaseLost")
      })
    )
  }
}

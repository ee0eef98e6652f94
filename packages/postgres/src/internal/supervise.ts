/** The life of a supervisor: register, tick, unregister. */
import { type Broker, givenUpPrefix, type Lane, type SupervisorId, type Tick } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid, printable, storedMillis } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import { maxDetailLength } from "@effect-ray/core/Limits"
import { maxLosses } from "@effect-ray/core/Outcome"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { laneId, type LaneBook } from "./lanes.ts"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { isBadValue, retryTransient, unavailable, wordsOf } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** A tick is asked again before the lease is over, more than once. */
const ticksInLease = 3

/** The shortest time to wait for a tick's answer, however short the lease. */
const minTickPatience = Duration.seconds(1)

const tickPatience = (lease: Duration.Duration): Duration.Duration =>
  Duration.max(minTickPatience, Duration.millis(storedMillis(lease) / ticksInLease))

/** How often a process looks for executions whose owner is no supervisor, in milliseconds. Only rows changed by hand are. */
const orphanMillis = 60_000

/** The longest label that is stored, in characters. */
const maxLabelLength = 200

interface TickRow extends Woken {
  readonly alive: boolean
  readonly cancelling: ReadonlyArray<string> | null
  readonly reaped: number
  readonly next_due_millis: number | null
}

export const makeSupervise = (
  store: Store,
  notifier: Notifier,
  noteLanes: LaneBook,
  partitions: Partitions
): Pick<Broker["Service"], "register" | "unregister" | "hold" | "tick"> => {
  const { s } = store
  let lookedForOrphans = -Infinity

  const statement = (
    supervisor: SupervisorId,
    lanes: ReadonlyArray<Lane>,
    lease: Duration.Duration,
    upkeep: boolean
  ) => {
    const now = performance.now()
    const orphans = upkeep && now - lookedForOrphans >= orphanMillis
    if (orphans) lookedForOrphans = now
    return store.own((sql) =>
      sql<TickRow>`
        SELECT * FROM ${s}.tick(
          ${supervisor}, ${storedMillis(lease)}, ${arrays.int8(lanes.map(laneId))}, ${upkeep}, ${orphans}, ${maxLosses},
          ${Endings.lapsed}, ${Endings.quarantined}, ${Endings.unconfirmed}, ${Endings.expired}
        )
      `, { atMost: tickPatience(lease) })
  }

  const tick = (
    supervisor: SupervisorId,
    lanes: ReadonlyArray<Lane>,
    lease: Duration.Duration
  ): Effect.Effect<Tick, BrokerError> =>
    partitions.filing(statement(supervisor, lanes, lease, true)).pipe(
      // The upkeep is for all, and what it meets may be anybody's. The lease must not hang on it.
      Effect.catchIf(isBadValue, (error) =>
        Effect.andThen(
          Effect.logError(`the upkeep of the queue failed, and is tried again: ${wordsOf(error)}`),
          statement(supervisor, lanes, lease, false)
        )),
      Effect.ensuring(Effect.sync(() => notifier.background(partitions.keep))),
      Effect.mapError(unavailable("tick")),
      Effect.map(([row]) => {
        notifier.woken(row!)
        return {
          alive: row!.alive,
          cancelling: row!.cancelling ?? [],
          reaped: row!.reaped,
          nextDue: Option.map(
            Option.fromNullOr(row!.next_due_millis),
            (millis) => millis <= 0 ? Duration.zero : Duration.millis(millis)
          )
        }
      })
    )

  return {
    register: ({ label, lanes, lease, supervisor }) =>
      retryTransient(Effect.andThen(
        noteLanes(lanes),
        store.own((sql) =>
          sql`
            SELECT ${s}.register(
              ${supervisor}, ${printable(label, maxLabelLength)}, ${arrays.int8([...new Set(lanes.map(laneId))])}, ${
            storedMillis(lease)
          }
            )
          `
        )
      )).pipe(
        Effect.mapError(unavailable("register")),
        Effect.map(() => notifier.background(partitions.keep))
      ),

    unregister: (supervisor) =>
      partitions.filing(retryTransient(
        store.own((sql) =>
          sql<Woken>`SELECT * FROM ${s}.unregister(${supervisor}, ${Endings.left}, ${Endings.cancelled})`
        )
      )).pipe(
        Effect.mapError(unavailable("unregister")),
        Effect.map(([row]) => notifier.woken(row!))
      ),

    hold: ({ givenUp, lanes, reason, supervisor }) => {
      if (!isUuid(supervisor) || lanes.length === 0) return Effect.succeed([])
      const ids = arrays.int8([...new Set(lanes.map(laneId))].sort((a, b) => a < b ? -1 : 1))
      const words = Option.getOrNull(Option.map(reason, (reason) => printable(reason, maxDetailLength)))
      return retryTransient(
        store.own((sql) =>
          sql<{ readonly lanes: ReadonlyArray<bigint> }>`
            SELECT ${s}.hold(${supervisor}, ${ids}, ${words}, ${givenUpPrefix}, ${givenUp}) AS lanes
          `
        )
      ).pipe(
        Effect.mapError(unavailable("hold")),
        Effect.map(([row]) => lanes.filter((lane) => row!.lanes.includes(laneId(lane))))
      )
    },

    tick: ({ lanes, lease, supervisor }) =>
      isUuid(supervisor)
        ? tick(supervisor, lanes, lease)
        : Effect.succeed({ alive: false, cancelling: [], reaped: 0, nextDue: Option.none() })
  }
}

/** The life of a supervisor: register, tick, unregister. */
import type { Broker, Lane, SupervisorId, Tick } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid, storedMillis, storedSentence } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import { maxLosses } from "@effect-ray/core/Outcome"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { laneId, type LaneBook } from "./lanes.ts"
import type { Notifier, Woken } from "./notifier.ts"
import type { Partitions } from "./partitions.ts"
import { retryTransient, unavailable } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** A tick is asked again before the lease is over, more than once. */
const ticksInLease = 3

/** The shortest time to wait for a tick's answer, however short the lease. */
const minTickPatience = Duration.seconds(1)

const tickPatience = (lease: Duration.Duration): Duration.Duration =>
  Duration.max(minTickPatience, Duration.millis(storedMillis(lease) / ticksInLease))

export const makeSupervise = (
  store: Store,
  notifier: Notifier,
  noteLanes: LaneBook,
  partitions: Partitions
): Pick<Broker["Service"], "register" | "unregister" | "hold" | "tick"> => {
  const { answered, s, sql } = store

  const tick = (
    supervisor: SupervisorId,
    lanes: ReadonlyArray<Lane>,
    lease: Duration.Duration
  ): Effect.Effect<Tick, BrokerError> =>
    partitions.filing(answered(
      sql<
        Woken & {
          readonly alive: boolean
          readonly cancelling: ReadonlyArray<string> | null
          readonly reaped: number
          readonly next_due_millis: number | null
        }
      >`
      SELECT * FROM ${s}.tick(
        ${supervisor}, ${storedMillis(lease)}, ${arrays.int8(lanes.map(laneId))}, ${maxLosses},
        ${Endings.lapsed}, ${Endings.quarantined}, ${Endings.unconfirmed}, ${Endings.expired}
      )
    `,
      { atMost: tickPatience(lease) }
    )).pipe(
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
        answered(sql`
          INSERT INTO ${s}.supervisors (id, label, registered_at, lease_millis, expires_at)
          SELECT ${supervisor}::uuid, ${label}, c.at, l.millis, c.at + l.millis * interval '1 millisecond'
          FROM (SELECT ${s}.clock() AS at) c, (SELECT ${storedMillis(lease)}::double precision AS millis) l
          ON CONFLICT (id) DO NOTHING
        `)
      )).pipe(
        Effect.mapError(unavailable("register")),
        Effect.map(() => notifier.background(partitions.keep))
      ),

    unregister: (supervisor) =>
      partitions.filing(retryTransient(
        answered(sql<Woken>`SELECT * FROM ${s}.unregister(${supervisor}, ${Endings.left}, ${Endings.cancelled})`)
      )).pipe(
        Effect.mapError(unavailable("unregister")),
        Effect.map(([row]) => notifier.woken(row!))
      ),

    hold: ({ lanes, reason, supervisor }) => {
      if (!isUuid(supervisor) || lanes.length === 0) return Effect.void
      const ids = arrays.int8([...new Set(lanes.map(laneId))].sort((a, b) => a < b ? -1 : 1))
      const statement = Option.match(reason, {
        onNone: () => sql`DELETE FROM ${s}.holds o WHERE o.supervisor = ${supervisor} AND o.lane = ANY (${ids})`,
        // Of a supervisor that is gone there is nothing to say.
        onSome: (reason) =>
          sql`
          INSERT INTO ${s}.holds (supervisor, lane, reason)
          SELECT v.id, l.id, ${storedSentence(reason)}
          FROM ${s}.supervisors v CROSS JOIN unnest(${ids}) AS l(id)
          WHERE v.id = ${supervisor}
          FOR KEY SHARE OF v
          ON CONFLICT (supervisor, lane) DO UPDATE SET reason = excluded.reason
        `
      })
      return retryTransient(answered(statement)).pipe(Effect.mapError(unavailable("hold")), Effect.asVoid)
    },

    tick: ({ lanes, lease, supervisor }) =>
      isUuid(supervisor)
        ? tick(supervisor, lanes, lease)
        : Effect.succeed({ alive: false, cancelling: [], reaped: 0, nextDue: Option.none() })
  }
}

/** Registers, ticks and unregisters supervisors. */
import type { Broker, Pausable, SupervisorId, Tick } from "@effect-ray/core/Broker"
import { BrokerError, Unavailable } from "@effect-ray/core/BrokerError"
import { ageMillis, isUuid, printable, storedMillis } from "@effect-ray/core/BrokerInput"
import * as Endings from "@effect-ray/core/Endings"
import { maxDetailLength } from "@effect-ray/core/Limits"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { laneId, type LaneBook } from "./lanes.ts"
import type { Notifier, Woken } from "./notifier.ts"
import { maxRetaken, maxRetakenBytes } from "./duties.ts"
import type { Partitions } from "./partitions.ts"
import { retryTransient, unavailable } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** How many ticks fit into a lease. */
const ticksInLease = 3

/** The shortest limit for a tick's response, however short the lease. */
const minTickPatience = Duration.seconds(1)

const tickPatience = (lease: Duration.Duration): Duration.Duration =>
  Duration.max(minTickPatience, Duration.millis(storedMillis(lease) / ticksInLease))

/** How often a leaving supervisor looks at rows that other transactions hold, and how long it waits in between. */
const maxLeaveLooks = 50
const leavePause = Duration.millis(100)

const locked = new BrokerError({
  reason: new Unavailable({
    operation: "unregister",
    detail:
      "other transactions hold executions of this supervisor: they go back to their queues when its lease has lapsed"
  })
})

/** The longest label that is stored, in characters. */
const maxLabelLength = 200

interface TickRow {
  readonly alive: boolean
  readonly paused_queues: ReadonlyArray<string> | null
  readonly paused_tasks: ReadonlyArray<string> | null
  readonly cancelling: ReadonlyArray<string> | null
  readonly next_due_millis: number | null
  readonly unread: ReadonlyArray<string> | null
  readonly due_duties: ReadonlyArray<string> | null
}

export const makeSupervise = (
  store: Store,
  notifier: Notifier,
  noteLanes: LaneBook,
  partitions: Partitions
): Pick<Broker["Service"], "register" | "unregister" | "hold" | "tick" | "pause" | "resume"> => {
  const { s } = store

  const tick = ({ duties, lanes, lease, supervisor }: Parameters<Broker["Service"]["tick"]>[0]) =>
    store.own((sql) =>
      sql<TickRow>`
        SELECT * FROM ${s}.tick(
          ${supervisor}, ${storedMillis(lease)}, ${arrays.int8(lanes.map(laneId))}, ${arrays.text(duties)}
        )
      `, { atMost: tickPatience(lease) }).pipe(
        Effect.mapError(unavailable("tick")),
        Effect.map(([row]): Tick => ({
          alive: row!.alive,
          paused: (row!.paused_queues ?? []).map((queue, index) => ({ queue, task: row!.paused_tasks![index]! })),
          cancelling: row!.cancelling ?? [],
          nextDue: Option.map(
            Option.fromNullOr(row!.next_due_millis),
            (millis) => millis <= 0 ? Duration.zero : Duration.millis(millis)
          ),
          unread: row!.unread ?? [],
          dueDuties: row!.due_duties ?? []
        }))
      )

  const change = (verb: "pause" | "resume", what: Pausable): Effect.Effect<boolean, BrokerError> => {
    const [kind, name] = "queue" in what ? ["queue", what.queue] : ["task", what.task]
    const statement = store.beside((sql) =>
      sql<{ readonly changed: boolean }>`SELECT ${s}.${sql.literal(verb)}(${kind}, ${name}) AS changed`
    )
    return Effect.map(Effect.mapError(retryTransient(statement), unavailable(verb)), ([row]) => {
      if (row!.changed) notifier.paused()
      return row!.changed
    })
  }

  /** Gives back a part of what a supervisor owns. */
  const leave = (supervisor: SupervisorId) =>
    partitions.filing(retryTransient(
      store.own((sql) =>
        sql<Woken & { readonly taken: number; readonly more: boolean }>`
          SELECT * FROM ${s}.unregister(
            ${supervisor}, ${maxRetaken}, ${maxRetakenBytes}, ${Endings.left}, ${Endings.cancelled}
          )
        `
      )
    )).pipe(
      Effect.map(([row]) => {
        notifier.woken(row!)
        return row!
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
          }, ${store.process}
            )
          `
        )
      )).pipe(
        Effect.mapError(unavailable("register")),
        Effect.asVoid
      ),

    unregister: (supervisor) =>
      Effect.gen(function*() {
        for (let looks = 0; looks < maxLeaveLooks;) {
          const { more, taken } = yield* Effect.mapError(leave(supervisor), unavailable("unregister"))
          if (!more) return
          if (taken > 0) continue
          looks++
          yield* Effect.sleep(leavePause)
        }
        return yield* Effect.fail(locked)
      }),

    hold: ({ failing, lanes, patience, reason, supervisor }) => {
      if (!isUuid(supervisor) || lanes.length === 0) return Effect.succeed([])
      const ids = arrays.int8([...new Set(lanes.map(laneId))].sort((a, b) => a < b ? -1 : 1))
      const words = Option.getOrNull(Option.map(reason, (reason) => printable(reason, maxDetailLength)))
      return retryTransient(
        store.own((sql) =>
          sql<{ readonly lanes: ReadonlyArray<bigint> }>`
            SELECT ${s}.hold(${supervisor}, ${ids}, ${words}, ${failing}, ${ageMillis(patience)}) AS lanes
          `
        )
      ).pipe(
        Effect.mapError(unavailable("hold")),
        Effect.map(([row]) => lanes.filter((lane) => row!.lanes.includes(laneId(lane))))
      )
    },

    tick: (options) =>
      isUuid(options.supervisor)
        ? tick(options)
        : Effect.succeed({
          alive: false,
          paused: [],
          cancelling: [],
          nextDue: Option.none(),
          unread: [],
          dueDuties: []
        }),

    pause: (what) => change("pause", what),
    resume: (what) => change("resume", what)
  }
}

/** What a process's broker and its store of runs share: how they hear of others, and tell them. */
import * as Limits from "@effect-ray/core/Limits"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as PgClient from "@effect/sql-pg/PgClient"
import { makeFloors, type Floors } from "./floors.ts"
import { makeLaneBook, type LaneBook } from "./lanes.ts"
import { listenConfig } from "./listenConfig.ts"
import { defaultProbeInterval, type Listener, makeListener } from "./listener.ts"
import { type Local, makeLocal } from "./local.ts"
import { makeNotifier, type Notifier } from "./notifier.ts"
import { makePartitions, type Partitions } from "./partitions.ts"
import type { Store } from "./store.ts"

/**
 * How the broker learns of changes, and how long it waits.
 *
 * @category models
 */
export interface SharedOptions {
  /**
   * Whether to send and receive notifications (NOTIFY and LISTEN). Default: true. Without them everything still works,
   * only later: supervisors learn of new executions from their ticks.
   */
  readonly notify?: boolean | undefined
  /**
   * How to reach Postgres for LISTEN, if the client goes through a pooler such as pgbouncer. Fields that are left out
   * are taken from the client, except its address: with a `url` or a `host`, no part of that is used. A `port` alone
   * changes the port at the client's address. Default: as the client.
   */
  readonly listen?: PgClient.PgClientConfig | undefined
  /**
   * How long an enqueue waits for an idempotency key that another transaction has enqueued and not yet committed,
   * before it fails with `Unavailable`. Default: 30 seconds.
   */
  readonly keyPatience?: Duration.Input | undefined
  /** How often to poll for work and awaited executions while no notifications arrive. Default: 1 second. */
  readonly pollInterval?: Duration.Input | undefined
  /** How often to test whether notifications arrive. Default: 30 seconds. */
  readonly probeInterval?: Duration.Input | undefined
  /**
   * How long an awaited execution may be due while no live worker serves its lane, before a warning is logged. Default:
   * 10 seconds.
   */
  readonly unservedPatience?: Duration.Input | undefined
}

export interface Desk {
  readonly local: Local
  readonly notifier: Notifier
  readonly listener: Listener
  readonly noteLanes: LaneBook
  readonly floors: Floors
  readonly partitions: Partitions
  readonly pollInterval: Duration.Duration
}

export const makeDesk = Effect.fnUntraced(function*(
  store: Store,
  options: SharedOptions
): Effect.fn.Return<Desk, never, Scope.Scope> {
  const fault = yield* Limits.fault
  if (fault !== undefined) throw new Error(`PgBroker: ${fault}`)
  const notify = options.notify ?? true
  const local = yield* makeLocal
  const notifier = yield* makeNotifier(store, local, { notify })
  const pollInterval = Duration.fromInputUnsafe(options.pollInterval ?? "1 second")
  const listener = yield* makeListener(store, local, {
    notify,
    connection: listenConfig(store.sql.config, options.listen),
    probeInterval: Duration.fromInputUnsafe(options.probeInterval ?? defaultProbeInterval),
    pollInterval
  })
  const floors = makeFloors()
  local.onAgain = floors.clear
  return {
    local,
    notifier,
    listener,
    noteLanes: makeLaneBook(store),
    floors,
    partitions: makePartitions(store),
    pollInterval
  }
})

/**
 * Hearing other processes, by LISTEN on a connection of its own.
 *
 * It is opened by the first who wants to hear, and opened again when it is lost; whoever listens is then told to look
 * at everything, because messages may have been missed.
 */
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import type { Local } from "./local.ts"
import { Message } from "./notifier.ts"
import type { Store } from "./store.ts"

/** How often an idle connection is asked whether it still lives: the other end may be gone without a word. */
const probeInterval = Duration.seconds(30)
const probeTimeout = Duration.seconds(5)

/** The shortest time between a connection that is lost and the next. */
const minPause = Duration.millis(50)

const backoff = Schedule.min([Schedule.exponential(minPause), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Message))

export interface Listener {
  /** Begins to listen, unless it has begun before. */
  readonly start: () => void
  /** Whether messages are heard now. */
  readonly isConnected: () => boolean
}

export const makeListener = Effect.fnUntraced(function*(
  store: Store,
  local: Local,
  options: { readonly notify: boolean; readonly connection: PgClientConfig }
) {
  const scope = yield* Effect.scope
  let started = false
  let connected = false
  let sessions = 0
  const runFork = Effect.runForkWith(yield* Effect.context<never>())

  const hear = (payload: string): void => {
    const decoded = decode(payload)
    if (decoded._tag === "None" || decoded.value.from === store.process) return
    const { again, cancelling, queues } = decoded.value
    if (again === true) local.again()
    if (queues !== undefined) local.enqueued(new Map(queues))
    if (cancelling !== undefined) local.cancelling(cancelling)
  }

  const consume = <E>(queue: Queue.Dequeue<PgConnection.Notification, E>, each: (payload: string) => void) =>
    Effect.forever(Effect.map(Queue.takeAll(queue), (messages) => {
      for (const { payload } of messages) each(payload)
    }))

  /** Listens until the connection is lost. */
  const session: Effect.Effect<never, SqlError | Cause.TimeoutError> = Effect.scoped(Effect.gen(function*() {
    // Made before the connection, so closed after it: on one that is gone without a word UNLISTEN would have no end.
    const channels = yield* Scope.fork(yield* Effect.scope)
    const connection = yield* Effect.flatMap(
      PgConnection.make({ keepAlive: "30 seconds", ...options.connection }),
      (connection) => connection.pin
    )
    const listen = (channel: string) => Scope.provide(connection.listen(channel), channels)
    const all = yield* listen(store.channel)
    const own = yield* listen(`${store.channel}_${store.process}`)
    connected = true
    sessions++
    local.again()
    local.resync()
    const probe = Effect.forever(Effect.andThen(
      Effect.sleep(probeInterval),
      Effect.timeout(connection.query("SELECT 1", [], false), probeTimeout)
    ))
    return yield* Effect.raceFirst(
      Effect.raceFirst(consume(all, hear), consume(own, (payload) => local.ended(payload.split(",")))),
      probe
    )
  })).pipe(Effect.ensuring(Effect.sync(() => {
    connected = false
  })))

  // Begun again for each session that came about, so that every outage is met with the same patience.
  const listening = Effect.suspend(() => {
    const before = sessions
    return session.pipe(
      Effect.tapError((error) => Effect.logDebug("the listening connection is lost", error.message)),
      Effect.catch((error) => sessions > before ? Effect.sleep(minPause) : Effect.fail(error))
    )
  }).pipe(Effect.retry(backoff), Effect.forever)

  return {
    start: () => {
      if (started || !options.notify) return
      started = true
      runFork(Effect.forkIn(listening, scope))
    },
    isConnected: () => connected
  } satisfies Listener
})

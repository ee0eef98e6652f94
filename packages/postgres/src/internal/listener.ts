/**
 * Receives messages of other processes, by LISTEN on a connection of its own.
 *
 * The first listener opens the connection. It is opened again when it is lost, and listeners are then told to look at
 * everything, because messages may have been missed. A successful LISTEN proves nothing: a pooler that lends a
 * connection for a transaction accepts it too, and no message ever arrives. So this process sends itself a message, at
 * first and again now and then.
 *
 * Messages are hints. Any role of the database can send them, so their content is bounded, and checked before anything
 * is stopped because of it.
 */
import { isUuid } from "@effect-ray/core/BrokerInput"
import type { PgClientConfig } from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Queue from "effect/Queue"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import type { SqlError } from "effect/sql/SqlError"
import * as Crypto from "node:crypto"
import type { Local } from "./local.ts"
import { Message, runsPrefix } from "./notifier.ts"
import { arrays, type Store } from "./store.ts"

/** How often to test whether messages arrive: the other end of a connection may disappear silently. */
export const defaultProbeInterval = Duration.seconds(30)

/** How long to wait after a reason to doubt the connection. A server that takes no writes gives one again and again. */
const doubtPause = Duration.millis(250)

/** How soon to try again while nothing can be sent. */
const retryInterval = Duration.seconds(1)

/** How long to wait for a message to oneself, once Postgres has accepted it. */
const echoPatience = Duration.seconds(5)

/** The most cancellations that wait to be checked. A tick finds the others. */
const maxUnconfirmed = 1_000

/** The shortest time between losing a connection and opening the next. */
const minPause = Duration.millis(50)

const backoff = Schedule.min([Schedule.exponential(minPause), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Message))

export interface Listener {
  /** Begins to listen, if it has not begun. */
  readonly start: () => void
  /** Whether messages arrive at the moment. */
  readonly isConnected: () => boolean
}

/** A message was sent but did not arrive. */
class Unheard extends Data.TaggedError("Unheard")<{ readonly message: string }> {}

export const makeListener = Effect.fnUntraced(function*(
  store: Store,
  local: Local,
  options: {
    readonly notify: boolean
    readonly connection: PgClientConfig
    readonly probeInterval: Duration.Duration
    readonly pollInterval: Duration.Duration
  }
) {
  const { s } = store
  const scope = yield* Effect.scope
  const own = `${store.channel}_${store.process}`
  const doubtful = Latch.makeUnsafe(false)
  const unconfirmed = new Set<string>()
  let started = false
  let connected = false
  /** A connection that could be opened received nothing, and this has been logged. */
  let deaf = false
  let confirming = false
  let sessions = 0
  const runFork = Effect.runForkWith(yield* Effect.context<never>())

  store.onReadOnly = () => doubtful.openUnsafe()

  /** Passes on cancellations that have really been requested, and not only announced. */
  const confirm = Effect.gen(function*() {
    while (unconfirmed.size > 0) {
      const ids = [...unconfirmed]
      unconfirmed.clear()
      const confirmed = yield* store.beside((sql) =>
        sql<{ readonly id: string }>`SELECT c.id FROM ${s}.cancelling(${arrays.uuid(ids)}) AS c(id)`
      )
      local.cancelling(confirmed.map(({ id }) => id))
    }
  }).pipe(
    Effect.ignore,
    Effect.ensuring(Effect.sync(() => {
      confirming = false
    }))
  )

  const hearCancelling = (ids: ReadonlyArray<string>): void => {
    for (const id of ids) if (unconfirmed.size < maxUnconfirmed && isUuid(id)) unconfirmed.add(id)
    if (confirming || unconfirmed.size === 0 || !local.isHeard()) return
    confirming = true
    runFork(confirm)
  }

  const hear = (payload: string): void => {
    const decoded = decode(payload)
    if (decoded._tag === "None" || decoded.value.from === store.process) return
    const { again, cancelling, paused, queues } = decoded.value
    if (again === true) local.again()
    if (queues !== undefined) local.enqueued(new Map(queues))
    if (paused === true) local.paused()
    if (cancelling !== undefined) hearCancelling(cancelling)
  }

  const consume = <E>(queue: Queue.Dequeue<PgConnection.Notification, E>, each: (payload: string) => void) =>
    Effect.forever(Effect.map(Queue.takeAll(queue), (messages) => {
      for (const { payload } of messages) each(payload)
    }))

  /** Listens until the connection is lost. */
  const session: Effect.Effect<never, SqlError | Unheard> = Effect.scoped(Effect.gen(function*() {
    // Made before the connection, so closed after it: on a connection that has disappeared silently, UNLISTEN would
    // never end.
    const channels = yield* Scope.fork(yield* Effect.scope)
    const connection = yield* Effect.flatMap(
      PgConnection.make({ keepAlive: "30 seconds", ...options.connection }),
      (connection) => connection.pin
    )
    const listen = (channel: string) => Scope.provide(connection.listen(channel), channels)
    const toAll = yield* listen(store.channel)
    const toUs = yield* listen(own)
    const echoed = Latch.makeUnsafe(false)
    let echo = ""
    const hearOwn = (payload: string): void => {
      if (payload === echo) echoed.openUnsafe()
      else if (payload.startsWith(runsPrefix)) local.woken(payload.slice(runsPrefix.length).split(","))
      else local.ended(payload.split(","))
    }

    /** Whether messages sent by others arrive here. If none can be sent, nothing is known. */
    const probe = Effect.gen(function*() {
      echo = `echo ${Crypto.randomBytes(8).toString("hex")}`
      echoed.closeUnsafe()
      const sent = yield* Effect.exit(
        store.beside((sql) => sql`SELECT ${s}.tell(${arrays.text([own])}, ${arrays.text([echo])})`)
      )
      if (Exit.isFailure(sent)) return
      yield* Effect.timeoutOrElse(echoed.await, {
        duration: echoPatience,
        orElse: () => Effect.fail(new Unheard({ message: "a message that was sent did not arrive" }))
      })
      if (connected) return
      connected = true
      deaf = false
      sessions++
      local.again()
      local.resync()
    })
    const probing = Effect.forever(Effect.gen(function*() {
      doubtful.closeUnsafe()
      yield* probe
      // A message that has not arrived yet may arrive as soon as Postgres answers.
      yield* Effect.race(
        Effect.sleep(connected ? options.probeInterval : Duration.min(options.probeInterval, retryInterval)),
        Effect.andThen(doubtful.await, Effect.sleep(doubtPause))
      )
    }))
    return yield* Effect.raceFirst(Effect.raceFirst(consume(toAll, hear), consume(toUs, hearOwn)), probing)
  })).pipe(Effect.ensuring(Effect.sync(() => {
    connected = false
  })))

  /** Looks at everything now and then, because no message will say when. */
  const unheard = Effect.gen(function*() {
    if (!deaf) {
      deaf = true
      yield* Effect.logWarning(
        "notifications of Postgres do not arrive: the connection seems to go through a pooler in transaction mode, or to "
          + "another database; give the direct address (EFFECT_RAY_LISTEN_URL, or listen of PgBroker.layer). Until then, work "
          + `and results are polled for every ${Duration.format(options.pollInterval)}`
      )
    }
    yield* Effect.sleep(options.probeInterval)
  })
  const polling = Effect.forever(Effect.andThen(
    Effect.sleep(options.pollInterval),
    Effect.sync(() => {
      if (deaf) local.resync()
    })
  ))

  // Starts again for each session that was established, so that every outage gets the whole patience.
  const listening = Effect.suspend(() => {
    const before = sessions
    return session.pipe(
      Effect.tapError((error) => Effect.logDebug("the listening connection is lost", error.message)),
      Effect.catch((error) =>
        sessions > before ? Effect.sleep(minPause) : error._tag === "Unheard" ? unheard : Effect.fail(error)
      )
    )
  }).pipe(Effect.retry(backoff), Effect.forever)

  return {
    start: () => {
      if (started || !options.notify) return
      started = true
      runFork(Effect.forkIn(listening, scope))
      runFork(Effect.forkIn(polling, scope))
    },
    isConnected: () => connected
  } satisfies Listener
})

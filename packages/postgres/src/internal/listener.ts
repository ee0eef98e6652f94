/**
 * Hearing other processes, by LISTEN on a connection of its own.
 *
 * It is opened by the first who wants to hear, and opened again when it is lost; whoever listens is then told to look
 * at everything, because messages may have been missed. That LISTEN succeeds proves nothing: a pooler that lends a connection
 * a transaction takes it too, and no message ever comes. So this process tells itself something, and again now and then.
 *
 * Messages are hints. Any role of the database can send them, so what they say is bounded, and checked before anything is
 * stopped for it.
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
import { Message } from "./notifier.ts"
import { arrays, type Store } from "./store.ts"

/** How often it is made sure that messages are heard: the other end of a connection may be gone without a word. */
export const defaultProbeInterval = Duration.seconds(30)

/** How long it is waited after a reason to doubt: a server that takes no writes gives one again and again. */
const doubtPause = Duration.millis(250)

/** How soon it is tried again while nothing can be sent. */
const retryInterval = Duration.seconds(1)

/** How long a message to oneself is waited for, once Postgres has it. */
const echoPatience = Duration.seconds(5)

/** The most cancellations that wait to be looked at. Others are found by a tick. */
const maxUnconfirmed = 1_000

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

/** No message was heard that was sent. */
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
  /** A connection that could be made did not hear, and it has been said. */
  let deaf = false
  let confirming = false
  let sessions = 0
  const runFork = Effect.runForkWith(yield* Effect.context<never>())

  store.onReadOnly = () => doubtful.openUnsafe()

  /** Tells of cancellations that somebody has asked for, and not only said so. */
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
    // Made before the connection, so closed after it: on one that is gone without a word UNLISTEN would have no end.
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
      else local.ended(payload.split(","))
    }

    /** Whether what is sent elsewhere is heard here. Where it cannot be sent, nothing is known. */
    const probe = Effect.gen(function*() {
      echo = `echo ${Crypto.randomBytes(8).toString("hex")}`
      echoed.closeUnsafe()
      const sent = yield* Effect.exit(
        store.beside((sql) => sql`SELECT ${s}.tell(${arrays.text([own])}, ${arrays.text([echo])})`)
      )
      if (Exit.isFailure(sent)) return
      yield* Effect.timeoutOrElse(echoed.await, {
        duration: echoPatience,
        orElse: () => Effect.fail(new Unheard({ message: "a message that was sent was not heard" }))
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
      // One that has not been heard yet may be as soon as Postgres answers.
      yield* Effect.race(
        Effect.sleep(connected ? options.probeInterval : Duration.min(options.probeInterval, retryInterval)),
        Effect.andThen(doubtful.await, Effect.sleep(doubtPause))
      )
    }))
    return yield* Effect.raceFirst(Effect.raceFirst(consume(toAll, hear), consume(toUs, hearOwn)), probing)
  })).pipe(Effect.ensuring(Effect.sync(() => {
    connected = false
  })))

  /** Looks at everything now and then, because nobody will say when. */
  const unheard = Effect.gen(function*() {
    if (!deaf) {
      deaf = true
      yield* Effect.logWarning(
        "messages of Postgres are not heard: the connection seems to go through a pooler in transaction mode, or to another "
          + "database; give the direct address (EFFECT_RAY_LISTEN_URL, or listen of PgBroker.layer). Until then work "
          + `and results are looked for every ${Duration.format(options.pollInterval)}`
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

  // Begun again for each session that came about, so that every outage is met with the same patience.
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

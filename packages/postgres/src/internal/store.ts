/** What every verb of the Postgres broker uses. */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type * as Statement from "effect/sql/Statement"
import * as Crypto from "node:crypto"
import { type Ask, makeAsk } from "./ask.ts"
import { channelOf, quote } from "./schemaName.ts"

/** The broker's connections for what a lease depends on: a tick, a claim and a settlement may be under way at once. */
const ownConnections = 3

/** Its connections for what must not wait for the app's pool either, but may be blocked by others. */
const besideConnections = 2

/**
 * The largest message from Postgres that the client must accept: a row with the largest payload and the largest result.
 */
const minMessageSize = 16 * 1024 * 1024

export interface Store {
  /** The app's own client, so that its transactions are ours. Its name transforms are not used. */
  readonly sql: PgClient.PgClient
  /** Runs statements over the app's client. */
  readonly ask: Ask
  /**
   * Runs statements over the broker's own connections, for what a lease depends on, because the app may hold its whole
   * pool for longer than a lease. Each connection does one thing at a time, and waits for no lock that the app can
   * hold.
   */
  readonly own: Ask
  /**
   * Runs statements over other connections of the broker's own, for what could deadlock in the app's pool: transactions
   * may hold all of it, each waiting for a cancellation or an end.
   */
  readonly beside: Ask
  /** The quoted schema, for a template. */
  readonly s: Statement.Fragment
  /** The channel of every process. */
  readonly channel: string
  /**
   * Called after a connection was dropped because its server takes no writes. Set by a component with a similar
   * connection.
   */
  onReadOnly: () => void
  /** This process's name: the suffix of its own channel, and the entry in `waiters`. */
  readonly process: string
}

export const makeStore = Effect.fnUntraced(function*(
  client: PgClient.PgClient,
  schema: string,
  patience: Duration.Duration
): Effect.fn.Return<Store, never, Scope.Scope> {
  checkMessageSize(client)
  const sql = client.withoutTransforms()
  const ask = makeAsk(sql, patience, () => store.onReadOnly())
  const asking = Effect.fnUntraced(function*(maxConnections: number) {
    const own = makeAsk(yield* like(client, maxConnections), patience, () => store.onReadOnly())
    let isOpen = true
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        isOpen = false
      })
    )
    // A handle on an execution may outlive the broker that made it, while the client still exists.
    const either: Ask = Object.assign(
      ((statement, weight) => isOpen ? own(statement, weight) : ask(statement, weight)) as Ask,
      { shed: own.shed }
    )
    return either
  })
  const store: Store = {
    sql,
    ask,
    own: yield* asking(ownConnections),
    beside: yield* asking(besideConnections),
    onReadOnly: () => {},
    s: sql.literal(quote(schema)),
    channel: channelOf(schema),
    process: Crypto.randomBytes(8).toString("hex")
  }
  return store
})

/** Throws if a stored payload could become unreadable. */
const checkMessageSize = ({ config: { maxMessageSize = minMessageSize } }: PgClient.PgClient): void => {
  if (maxMessageSize >= minMessageSize) return
  throw new Error(
    `PgBroker: the client's maxMessageSize is ${maxMessageSize} bytes, but a row with a payload and a result may have `
      + `${minMessageSize}: leave it out, or set at least that`
  )
}

/** A client with its own connections, opened when needed. */
const like = (
  client: PgClient.PgClient,
  maxConnections: number
): Effect.Effect<PgClient.PgClient, never, Scope.Scope> =>
  PgClient.make({ ...client.config, minConnections: 0, maxConnections, multiplex: false }).pipe(
    Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make),
    Effect.map((own) => own.withoutTransforms()),
    Effect.orDie
  )

const array = (oid: number) => (values: ReadonlyArray<unknown>): PgTypes.Parameter =>
  Result.getOrThrow(PgTypes.array(values, oid))

/** Array parameters in binary, whatever they contain. */
export const arrays = {
  bool: array(PgTypes.OID.bool),
  float8: array(PgTypes.OID.float8),
  int2: array(PgTypes.OID.int2),
  int4: array(PgTypes.OID.int4),
  int8: array(PgTypes.OID.int8),
  text: array(PgTypes.OID.text),
  uuid: array(PgTypes.OID.uuid)
}

/** The nil UUID, below every other. */
export const nil = "00000000-0000-0000-0000-000000000000"

/** Finds a gateway and keeps a connection to it. */
import type { BrokerError } from "@effect-ray/core/BrokerError"
import type { GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Gateway from "../Gateway.ts"
import * as Connection from "../GatewayConnection.ts"
import type * as RayCluster from "../RayCluster.ts"
import * as RayAddress from "../RayAddress.ts"
import { GatewayFailed, RayError } from "../RayError.ts"
import { Refused, WrongSecret } from "./handshake.ts"
import type { RayPool } from "./rayPools.ts"

/** How long a gateway is dialled that cannot be reached although its job is running. Then `connect` fails. */
const dialTimeout = Duration.seconds(20)

const redialInterval = Duration.millis(250)

/** How long to wait for the gateway when leaving. */
const goodbyeTimeout = Duration.seconds(1)

/** A connection with its own state. */
export interface Session {
  /** The connection to the gateway. */
  readonly connection: Connection.GatewayConnection
  /** The gateway's epoch. */
  readonly epoch: number
  /** The pools that are open on this connection. */
  readonly pools: Map<RayPool, Connection.Pool>
}

type Options = Omit<Connection.Options, "host" | "port" | "secret">

/**
 * Dials a gateway whose epoch is later than `after`, until one accepts this worker. Fails if a gateway runs but cannot
 * be reached, refuses the worker, or if none starts.
 */
export const connect = Effect.fnUntraced(function*(
  gateway: Gateway.Options,
  connection: Options,
  after: number
): Effect.fn.Return<Session, RayError | BrokerError, RayCluster.RayCluster | GatewayRegistry> {
  for (let dead = after;;) {
    const { address, entry } = yield* Gateway.join(gateway, dead)
    const failed = (detail: string) =>
      new RayError({ reason: new GatewayFailed({ submissionId: entry.submissionId, detail }) })
    // A gateway may advertise any address, but frames are not encrypted.
    const host = address.host.includes(":") ? `[${address.host}]` : address.host
    yield* RayAddress.resolve(`http://${host}:${address.port}`).pipe(
      Effect.mapError(({ message }) =>
        failed(
          `it advertises ${host}:${address.port}, which cannot be dialled (${message}); advertise a private address`
        )
      )
    )
    const givesUpAt = performance.now() + Duration.toMillis(dialTimeout)
    let refusal: Refused | undefined
    for (;;) {
      const dialled = yield* Effect.result(
        dial({ ...connection, host: address.host, port: address.port, secret: Redacted.value(entry.secret) })
      )
      if (dialled._tag === "Success") return { connection: dialled.success, epoch: entry.epoch, pools: new Map() }
      const { failure } = dialled
      // It belongs to another registry, or another gateway now has its address. It will never accept this worker.
      if (failure instanceof WrongSecret) break
      if (failure instanceof Refused) refusal = failure
      if (yield* Gateway.isOver(entry)) {
        // The next gateway would refuse it too.
        if (refusal !== undefined) return yield* failed(`it refused this worker: ${refusal.message}`)
        break
      }
      if (performance.now() > givesUpAt) {
        return yield* failed(
          `its job is running, but ${address.host}:${address.port} cannot be reached: ${failure.message}`
        )
      }
      yield* Effect.sleep(redialInterval)
    }
    dead = entry.epoch
  }
})

const dial = (options: Connection.Options): Effect.Effect<Connection.GatewayConnection, Error> =>
  Effect.callback((resume) => {
    const connection = new Connection.GatewayConnection(options)
    connection.connect(() => resume(Effect.succeed(connection)), (error) => resume(Effect.fail(error)))
    return Effect.sync(() => connection.close())
  })

/**
 * Leaves the gateway, and waits until it has received that: it then ends pending calls now, not when the lease lapses.
 */
export const leave = (connection: Connection.GatewayConnection): Effect.Effect<void> =>
  Effect.callback<void>((resume) => connection.close(() => resume(Effect.void))).pipe(
    Effect.timeoutOption(goodbyeTimeout),
    Effect.asVoid
  )

/** Reports once, to one waiter, that a gateway is gone. */
export interface GoneSignal {
  /** Reports that the gateway is gone, and why. */
  readonly tell: (detail: string) => void
  /** Waits for the report, and returns why the gateway is gone. */
  readonly wait: Effect.Effect<string>
}

export const makeGone = (first: () => void): GoneSignal => {
  let told: string | undefined
  let listener: (() => void) | undefined
  return {
    tell: (detail) => {
      first()
      told = detail
      listener?.()
    },
    wait: Effect.callback<string>((resume) => {
      listener = () => resume(Effect.succeed(told!))
      if (told !== undefined) listener()
    })
  }
}

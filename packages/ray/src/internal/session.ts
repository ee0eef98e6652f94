/** Finds a gateway and holds a connection to it. */
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
import type { Session } from "./flight.ts"

/** While a gateway's job is running but cannot be reached, it is dialled for so long before that is an error. */
const dialTimeout = Duration.seconds(20)

const redialInterval = Duration.millis(250)

/** Whoever ends a connection may take so long to say goodbye. */
const goodbyeTimeout = Duration.seconds(1)

type Options = Omit<Connection.Options, "host" | "port" | "secret">

/** Dials a gateway of an epoch after `after` until one is there. Fails when one runs that cannot be reached, or none starts. */
export const connect = Effect.fnUntraced(function*(
  gateway: Gateway.Options,
  connection: Options,
  after: number
): Effect.fn.Return<Session, RayError | BrokerError, RayCluster.RayCluster | GatewayRegistry> {
  for (let dead = after;;) {
    const { address, entry } = yield* Gateway.join(gateway, dead)
    // It may advertise any address; frames are not encrypted yet.
    const host = address.host.includes(":") ? `[${address.host}]` : address.host
    yield* RayAddress.resolve(`http://${host}:${address.port}`).pipe(
      Effect.mapError(({ message }) => {
        const detail =
          `it advertises ${host}:${address.port}, which cannot be dialled (${message}); advertise a private address`
        return new RayError({ reason: new GatewayFailed({ submissionId: entry.submissionId, detail }) })
      })
    )
    const givesUpAt = performance.now() + Duration.toMillis(dialTimeout)
    for (;;) {
      const dialled = yield* Effect.result(
        dial({ ...connection, host: address.host, port: address.port, secret: Redacted.value(entry.secret) })
      )
      if (dialled._tag === "Success") return { connection: dialled.success, epoch: entry.epoch, pools: new Map() }
      if (yield* Gateway.isOver(entry)) {
        dead = entry.epoch
        break
      }
      if (performance.now() > givesUpAt) {
        const detail = `its job is running, but ${address.host}:${address.port} cannot be reached: ${dialled.failure}`
        return yield* new RayError({ reason: new GatewayFailed({ submissionId: entry.submissionId, detail }) })
      }
      yield* Effect.sleep(redialInterval)
    }
  }
})

const dial = (options: Connection.Options): Effect.Effect<Connection.GatewayConnection, string> =>
  Effect.callback((resume) => {
    const connection = new Connection.GatewayConnection(options)
    connection.connect(() => resume(Effect.succeed(connection)), (detail) => resume(Effect.fail(detail)))
    return Effect.sync(() => connection.close())
  })

/** Leaves the gateway and waits until it knows, so that it ends what is pending now and not when the lease is over. */
export const leave = (connection: Connection.GatewayConnection): Effect.Effect<void> =>
  Effect.callback<void>((resume) => connection.close(() => resume(Effect.void))).pipe(
    Effect.timeoutOption(goodbyeTimeout),
    Effect.asVoid
  )

/** Tells one waiter, once, that a gateway is gone. */
export interface GoneSignal {
  readonly tell: (detail: string) => void
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

/**
 * The gateway registry of a deployment, in the broker's schema.
 *
 * The primary key is the lock: when several workers find no gateway, one of them inserts the next epoch and starts it.
 * The others read its address and secret from the row. A role that may call `gateway_current` may use the gateway.
 */
import { type GatewayEntry, GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { retryTransient, unavailable } from "./internal/sqlFailure.ts"
import type { Store } from "./internal/store.ts"
import * as PgStore from "./PgStore.ts"

/** How many epochs of a gateway are kept: the newest, and the one before, whose workers may still be using it. */
const keptEpochs = 2

interface Row {
  readonly epoch: number
  readonly submission_id: string
  readonly protocol: number
  readonly secret: string
  readonly host: string | null
  readonly port: number | null
}

const toEntry = (deployment: string, cluster: string, row: Row): GatewayEntry => ({
  deployment,
  cluster,
  epoch: row.epoch,
  submissionId: row.submission_id,
  protocol: row.protocol,
  secret: Redacted.make(row.secret),
  address: row.host === null || row.port === null ? Option.none() : Option.some({ host: row.host, port: row.port })
})

/**
 * A registry over the client.
 *
 * @category constructors
 */
export const make: (
  options?: PgStore.Options
) => Effect.Effect<GatewayRegistry["Service"], never, PgClient.PgClient | Scope.Scope> = Effect.fnUntraced(
  function*(options: PgStore.Options = {}) {
    return build(yield* PgStore.make(options))
  }
)

const build = ({ beside, s }: Store): GatewayRegistry["Service"] =>
  GatewayRegistry.of({
    current: (deployment, cluster) =>
      beside((sql) => sql<Row>`SELECT * FROM ${s}.gateway_current(${deployment}, ${cluster})`).pipe(
        retryTransient,
        Effect.mapError(unavailable("gateway registry")),
        Effect.map(([row]) => Option.map(Option.fromUndefinedOr(row), (row) => toEntry(deployment, cluster, row)))
      ),

    // Not repeated automatically: after a lost acknowledgement, the repetition could report our own row as another
    // worker's.
    open: (entry) =>
      beside((sql) =>
        sql<{ readonly opened: boolean }>`
            SELECT ${s}.gateway_open(
              ${entry.deployment}, ${entry.cluster}, ${entry.epoch}, ${entry.submissionId}, ${entry.protocol},
              ${Redacted.value(entry.secret)}, ${Option.getOrNull(entry.address)?.host ?? null},
              ${Option.getOrNull(entry.address)?.port ?? null}, ${keptEpochs}
            ) AS opened
          `
      ).pipe(Effect.mapBoth({
        onFailure: unavailable("gateway registry"),
        onSuccess: ([row]) => row!.opened
      })),

    publish: (entry, address) =>
      beside((sql) =>
        sql`
            SELECT ${s}.gateway_publish(
              ${entry.deployment}, ${entry.cluster}, ${entry.epoch}, ${address.host}, ${address.port}
            )
          `
      ).pipe(retryTransient, Effect.mapError(unavailable("gateway registry")), Effect.asVoid)
  })

/**
 * A registry over the client, as a layer.
 *
 * @category layers
 */
export const layer = (options?: PgStore.Options): Layer.Layer<GatewayRegistry, never, PgClient.PgClient> =>
  Layer.effect(GatewayRegistry, make(options))

/**
 * A registry over a store that it shares with other services.
 *
 * @category layers
 */
export const layerShared: Layer.Layer<GatewayRegistry, never, PgStore.PgStore> = Layer.effect(
  GatewayRegistry,
  Effect.map(PgStore.PgStore, build)
)

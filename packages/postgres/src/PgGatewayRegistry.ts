/**
 * The gateway registry of a deployment, in the broker's schema.
 *
 * The primary key is the lock: of many workers that find no gateway, one inserts the next epoch and starts it; the
 * others find its address and secret in the row. Who may read the schema may use the gateway.
 */
import { type GatewayEntry, GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { defaultPatience } from "./internal/answered.ts"
import { makeAsk } from "./internal/ask.ts"
import { defaultSchema, quote } from "./internal/schemaName.ts"
import { retryTransient, unavailable } from "./internal/sqlFailure.ts"

/**
 * Where the registry keeps its table.
 *
 * @category models
 */
export interface Options {
  /** Default: `effect_ray`. */
  readonly schema?: string | undefined
}

/** How many epochs of a gateway are kept: the newest, and the one before, whose workers may still be at work. */
const keptEpochs = 2

interface Row {
  readonly deployment: string
  readonly cluster: string
  readonly epoch: number
  readonly submission_id: string
  readonly protocol: number
  readonly secret: string
  readonly host: string | null
  readonly port: number | null
}

const toEntry = (row: Row): GatewayEntry => ({
  deployment: row.deployment,
  cluster: row.cluster,
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
export const make: (options?: Options) => Effect.Effect<GatewayRegistry["Service"], never, PgClient.PgClient> = Effect
  .fnUntraced(function*(options: Options = {}) {
    const client = yield* PgClient.PgClient
    const sql = client.withoutTransforms()
    const ask = makeAsk(sql, defaultPatience)
    const s = sql.literal(quote(options.schema ?? defaultSchema))

    return GatewayRegistry.of({
      current: (deployment, cluster) =>
        ask(() =>
          sql<Row>`
          SELECT g.deployment, g.cluster, g.epoch, g.submission_id, g.protocol, g.secret, g.host, g.port
          FROM ${s}.gateways g
          WHERE g.deployment = ${deployment} AND g.cluster = ${cluster}
          ORDER BY g.epoch DESC
          LIMIT 1
        `
        ).pipe(
          retryTransient,
          Effect.mapError(unavailable("gateway registry")),
          Effect.map(([row]) => Option.map(Option.fromUndefinedOr(row), toEntry))
        ),

      // Not repeated by itself: after a lost acknowledgement the answer could be "another did" for our own row.
      open: (entry) =>
        ask(() =>
          sql`
          WITH forgotten AS (
            DELETE FROM ${s}.gateways g
            WHERE g.deployment = ${entry.deployment} AND g.cluster = ${entry.cluster}
              AND g.epoch <= ${entry.epoch - keptEpochs}::integer
          )
          INSERT INTO ${s}.gateways (
            deployment, cluster, epoch, submission_id, protocol, secret, host, port, opened_at
          )
          SELECT i.deployment, i.cluster, i.epoch, ${entry.submissionId}, ${entry.protocol}::integer,
            ${Redacted.value(entry.secret)}, ${Option.getOrNull(entry.address)?.host ?? null},
            ${Option.getOrNull(entry.address)?.port ?? null}::integer, ${s}.clock()
          FROM (
            SELECT ${entry.deployment}::text AS deployment, ${entry.cluster}::text AS cluster,
              ${entry.epoch}::integer AS epoch
          ) i
          WHERE NOT EXISTS (
            SELECT 1 FROM ${s}.gateways g
            WHERE g.deployment = i.deployment AND g.cluster = i.cluster AND g.epoch >= i.epoch
          )
          ON CONFLICT (deployment, cluster, epoch) DO NOTHING
          RETURNING 1
        `
        ).pipe(Effect.mapBoth({
          onFailure: unavailable("gateway registry"),
          onSuccess: (rows) => rows.length === 1
        })),

      publish: (entry, address) =>
        ask(() =>
          sql`
          UPDATE ${s}.gateways g
          SET host = ${address.host}, port = ${address.port}
          WHERE g.deployment = ${entry.deployment} AND g.cluster = ${entry.cluster} AND g.epoch = ${entry.epoch}
        `
        ).pipe(retryTransient, Effect.mapError(unavailable("gateway registry")), Effect.asVoid)
    })
  })

/**
 * A registry over the client, as a layer.
 *
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<GatewayRegistry, never, PgClient.PgClient> =>
  Layer.effect(GatewayRegistry, make(options))

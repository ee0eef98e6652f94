/**
 * The rows on Ray: effect-ray beside bare calls to a Python actor, which record nothing.
 *
 * `pool-p50` runs its handler on the host's main thread, a placement for handlers that never block; `pool-p50-thread`
 * in a handler thread, the default.
 */
import * as GatewayRegistry from "@effect-ray/core/GatewayRegistry"
import * as EmbeddedPostgres from "@effect-ray/postgres/EmbeddedPostgres"
import * as PgBroker from "@effect-ray/postgres/PgBroker"
import * as PgMigrations from "@effect-ray/postgres/PgMigrations"
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as RayRunner from "@effect-ray/ray/RayRunner"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import * as bareActor from "./ray/bareActor.ts"
import * as pool from "./ray/pool.ts"
import { make, report } from "./Row.ts"

/** Measured in turns; the row is the median of the rounds. An odd number. */
const rounds = 5

const stateFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-ray-bench-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

const cluster = Layer.unwrap(
  Effect.map(stateFolder, (stateFolder) => Layer.provide(LocalRay.layerCluster, LocalRay.layer({ stateFolder })))
)

const runner = RayRunner.layer({
  worker: (await import("./ray/worker.ts")).default,
  module: fileURLToPath(new URL("./ray/worker.ts", import.meta.url)),
  deployment: `bench-${process.pid}`
}).pipe(Layer.provide(GatewayRegistry.layerMemory), Layer.provideMerge(cluster))

const database = PgBroker.layer().pipe(
  Layer.provideMerge(Layer.effectDiscard(PgMigrations.migrate())),
  Layer.provideMerge(
    Layer.unwrap(Effect.map(EmbeddedPostgres.make(), ({ url }) => PgClient.layer({ url, maxConnections: 5 })))
  ),
  Layer.orDie
)

interface Figures {
  readonly p50: Array<number>
  readonly p50Thread: Array<number>
  readonly throughput: Array<number>
  readonly drain: Array<number>
}

const none = (): Figures => ({ p50: [], p50Thread: [], throughput: [], drain: [] })

const rows = {
  "pool-p50": { key: "p50", unit: "ms", higherIsBetter: false },
  "pool-p50-thread": { key: "p50Thread", unit: "ms", higherIsBetter: false },
  "pool-throughput": { key: "throughput", unit: "calls/s", higherIsBetter: true },
  "ray-drain": { key: "drain", unit: "executions/s", higherIsBetter: true }
} as const

export const names = Object.keys(rows) as ReadonlyArray<keyof typeof rows>

/** Measures all of them, because the peer's figures are used in all, and reports the wanted ones. */
export const run = Effect.fnUntraced(
  function*(wanted: ReadonlyArray<string>) {
    const ours = none()
    const peer = none()
    yield* pool.warmUp
    for (let round = 0; round < rounds; round++) {
      const bare = yield* bareActor.measure(round)
      peer.p50.push(bare.p50Millis)
      peer.p50Thread.push(bare.p50Millis)
      peer.throughput.push(bare.callsPerSecond)
      peer.drain.push(bare.callsPerSecond)
      ours.p50.push(yield* pool.p50Main)
      ours.p50Thread.push(yield* pool.p50Thread)
      ours.throughput.push(yield* pool.throughput)
      ours.drain.push(yield* pool.drain)
    }
    for (const name of names) {
      if (!wanted.includes(name)) continue
      const { key, ...row } = rows[name]
      yield* report(make({ ...row, name, ours: ours[key], peer: peer[key], peerName: bareActor.peerName }))
    }
  },
  Effect.provide(Layer.mergeAll(runner, database, Logger.layer([]))),
  Effect.scoped
)

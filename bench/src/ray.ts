/** The rows on Ray: our pool beside bare calls of a Python actor, on one local head. */
import { GatewayRegistry } from "@effect-ray/core"
import { EmbeddedPostgres, PgMigrations } from "@effect-ray/postgres"
import { LocalRay, RayRunner } from "@effect-ray/ray"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as effectRay from "./contestants/effectRay.ts"
import * as bareCalls from "./ray/bareCalls.ts"
import * as drain from "./ray/drain.ts"
import * as pool from "./ray/pool.ts"
import worker from "./ray/worker.ts"
import * as Row from "./Row.ts"

/** An odd number, for the median. */
const rounds = 3

const rows = {
  "pool-p50": { measure: pool.latency, peer: "p50_ms", higherIsBetter: false, unit: "ms" },
  "pool-throughput": { measure: pool.throughput, peer: "calls_per_second", higherIsBetter: true, unit: "calls/s" },
  "ray-drain": { measure: drain.rate, peer: "calls_per_second", higherIsBetter: true, unit: "executions/s" }
} as const

export const names = Object.keys(rows) as ReadonlyArray<keyof typeof rows>

const PostgresLive = Layer.unwrap(
  Effect.map(EmbeddedPostgres.make(), ({ url }) =>
    Layer.provideMerge(PgMigrations.layer(), effectRay.layer(url, 4)))
)

const RayLive = Layer.unwrap(Effect.gen(function*() {
  const stateFolder = yield* Effect.acquireRelease(
    Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-bench-"))),
    (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
  )
  const module = fileURLToPath(new URL("./ray/worker.ts", import.meta.url))
  return RayRunner.layer({ worker, module }).pipe(
    Layer.provide(GatewayRegistry.layerMemory),
    Layer.provideMerge(LocalRay.layerCluster),
    Layer.provide(LocalRay.layer({ stateFolder }))
  )
}))

/** Measures the named rows, in rounds that hold all of them and the bare calls once. */
export const run = Effect.fnUntraced(function*(wanted: ReadonlyArray<string>) {
  const measured = names.filter((name) => wanted.includes(name))
  const figures = new Map(measured.map((name) => [name, { ours: Array<number>(), peer: Array<number>() }]))
  // The first round warms everything up.
  for (let n = 0; n <= rounds; n++) {
    const bare = yield* bareCalls.measure
    for (const name of measured) {
      const ours = yield* rows[name].measure
      if (n === 0) continue
      const peer = bare[rows[name].peer]
      yield* Row.progress(name, n, rounds, ours, peer)
      figures.get(name)!.ours.push(ours)
      figures.get(name)!.peer.push(peer)
    }
  }
  for (const [name, figure] of figures) {
    const { higherIsBetter, unit } = rows[name]
    yield* Row.report(Row.make({ name, ...figure, peerName: bareCalls.name, higherIsBetter, unit }))
  }
}, Effect.provide([RayLive, PostgresLive, Logger.layer([])]))

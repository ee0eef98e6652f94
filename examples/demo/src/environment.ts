/**
 * Everything the demo starts and stops: a Postgres, a Ray on this machine, and a supervisor that claims from the one
 * and runs on the other.
 */
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, References } from "effect"
import { GatewayRegistry, Supervisor } from "effect-ray"
import { EmbeddedPostgres, PgBroker, PgMigrations } from "effect-ray/postgres"
import { LocalRay, RayCluster, RayRunner } from "effect-ray/ray"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { Progress } from "./progress.ts"
import worker from "./worker.ts"

/** Attempts that run at once. */
const concurrency = 50

/** The deployment's name, which the gateway carries. */
const deployment = "demo"

const say = (text: string): Layer.Layer<never, never, Progress> =>
  Layer.effectDiscard(Progress.use((progress) => progress.step(text)))

const PostgresLive = say("Postgres is up").pipe(Layer.provideMerge(EmbeddedPostgres.layer()))

/** The application's own client. The broker uses the same one, so that one transaction covers both. */
const ClientLive = Layer.unwrap(
  Effect.map(EmbeddedPostgres.EmbeddedPostgres, ({ url }) => PgClient.layer({ url }))
).pipe(Layer.provide(PostgresLive))

const BrokerLive = PgBroker.layer().pipe(Layer.provide(PgMigrations.layer()), Layer.provideMerge(ClientLive))

/** A head of the demo's own, recorded in its own folder, so that it meets no other. */
const RayLive = say("Ray is up").pipe(Layer.provideMerge(Layer.unwrap(
  Effect.acquireRelease(
    Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-demo-"))),
    (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
  ).pipe(Effect.map((stateFolder) => LocalRay.layer({ stateFolder })))
)))

/**
 * A gateway without workers waits a while for the next one, and Ray would wait for the gateway, so it is stopped first.
 */
const GatewayStopsLive = Layer.effectDiscard(Effect.gen(function*() {
  const registry = yield* GatewayRegistry.GatewayRegistry
  const cluster = yield* RayCluster.RayCluster
  yield* Effect.addFinalizer(() =>
    registry.current(deployment, cluster.address).pipe(
      Effect.flatMap(Effect.fromOption),
      Effect.flatMap(({ submissionId }) => cluster.stop(submissionId)),
      Effect.ignore
    )
  )
}))

const RunnerLive = say("the gateway is up").pipe(
  Layer.provideMerge(
    RayRunner.layer({ worker, deployment, module: fileURLToPath(new URL("./worker.ts", import.meta.url)) })
  ),
  Layer.provide(GatewayStopsLive),
  Layer.provide([LocalRay.layerCluster, GatewayRegistry.layerMemory]),
  Layer.provide(RayLive)
)

const SupervisorLive = Layer.effectDiscard(
  Effect.forkScoped(Supervisor.run({ worker, concurrency, drain: "1 second", label: "demo" }))
)

export const layer = SupervisorLive.pipe(
  Layer.provide(RunnerLive),
  Layer.provideMerge(BrokerLive),
  // Outside the demo, a file like the bad one would deserve a warning.
  Layer.provide(Layer.succeed(References.MinimumLogLevel, "Error"))
)

/** A worker that goes on for long: packages that Ray forgets, and clusters that end and come back. */
import type { Ended } from "@effect-ray/core/Outcome"
import * as Runner from "@effect-ray/core/Runner"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import { type ChildProcess, spawn } from "node:child_process"
import * as path from "node:path"
import { freePorts } from "../src/internal/freePorts.ts"
import { hasMembers } from "../src/internal/processes.ts"
import { findRay } from "../src/internal/rayExecutable.ts"
import * as LocalRay from "../src/LocalRay.ts"
import * as RayCluster from "../src/RayCluster.ts"
import * as RayRunner from "../src/RayRunner.ts"
import * as Tasks from "./fixtures/tasks.ts"
import worker from "./fixtures/worker.ts"
import { eventually, module, newDeployment, RegistryLive, run, tempFolder } from "./support.ts"

/** How long the heads of these tests keep a package that nothing uses. */
const expiry = Duration.seconds(8)

/** Ray's own setting for it. What a node remembers of a broken environment stays at Ray's ten minutes. */
const forgetful = { RAY_RUNTIME_ENV_TEMPORARY_REFERENCE_EXPIRATION_S: String(Duration.toSeconds(expiry)) }

type Service = Runner.Runner["Service"]

const runnerOn = (
  cluster: Layer.Layer<RayCluster.RayCluster, unknown>,
  options: Partial<RayRunner.Options> = {}
): Effect.Effect<Service, never, Scope> =>
  RayRunner.layer({ deployment: newDeployment(), wait: Duration.minutes(2), ...options, worker, module }).pipe(
    Layer.provide(cluster),
    Layer.provide(RegistryLive),
    Layer.build,
    Effect.map((context) => Context.get(context, Runner.Runner)),
    Effect.orDie
  )

const add = (runner: Service): Effect.Effect<Ended> =>
  Effect.map(run(runner, Tasks.Add, { a: 1, b: 2 }), ({ ended }) => ended)

/** As a supervisor does: what comes back without having begun is tried again. */
const addAtLast = (runner: Service): Effect.Effect<Ended> =>
  Effect.repeat(add(runner), {
    until: (ended) => ended._tag === "Succeeded",
    schedule: Schedule.spaced("500 millis")
  })

const three: Ended = { _tag: "Succeeded", value: "3" }

/** A Ray of its own with a dashboard at these ports, until it is killed. */
const startHead = Effect.fnUntraced(function*(ports: ReadonlyArray<number>, token: string) {
  const ray = yield* findRay
  const [gcs, dashboard, client, nodeManager, objectManager, metrics, agentHttp, agentGrpc, runtimeEnv, dm, am] = ports
  const tempDir = yield* tempFolder
  const child = spawn(ray, [
    "start",
    "--head",
    "--block",
    "--node-ip-address=127.0.0.1",
    `--port=${gcs}`,
    "--dashboard-host=127.0.0.1",
    `--dashboard-port=${dashboard}`,
    `--ray-client-server-port=${client}`,
    `--node-manager-port=${nodeManager}`,
    `--object-manager-port=${objectManager}`,
    `--metrics-export-port=${metrics}`,
    `--dashboard-agent-listen-port=${agentHttp}`,
    `--dashboard-agent-grpc-port=${agentGrpc}`,
    `--runtime-env-agent-port=${runtimeEnv}`,
    "--min-worker-port=0",
    "--max-worker-port=0",
    "--num-cpus=4",
    "--object-store-memory=100000000",
    `--temp-dir=${tempDir}`,
    "--disable-usage-stats"
  ], {
    detached: true,
    stdio: "ignore",
    env: {
      PATH: [path.dirname(ray), process.env["PATH"]].join(path.delimiter),
      HOME: process.env["HOME"],
      TMPDIR: tempDir,
      RAY_AUTH_MODE: "token",
      RAY_AUTH_TOKEN: token,
      RAY_USAGE_STATS_ENABLED: "0",
      RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER: "0",
      DASHBOARD_METRIC_PORT: String(dm),
      AUTOSCALER_METRIC_PORT: String(am),
      EFFECT_RAY_NODE: process.execPath
    }
  })
  yield* Effect.addFinalizer(() => killHead(child))
  return child
})

/** Ends it as a power cut would. */
const killHead = (child: ChildProcess): Effect.Effect<void> =>
  Effect.andThen(
    Effect.sync(() => {
      try {
        process.kill(-child.pid!, "SIGKILL")
      } catch {
        // It is gone already.
      }
    }),
    Effect.asVoid(eventually(Effect.sync(() => hasMembers(child.pid!)), (alive) => !alive))
  )

const accepts = RayCluster.check.pipe(Effect.retry(Schedule.spaced("200 millis")))

describe("RayRunner over time", () => {
  it.live("runs after it was idle for several times as long as Ray keeps packages", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const local = yield* LocalRay.make({ stateFolder, env: forgetful, cpus: 4 })
      const cluster = Layer.provide(LocalRay.layerCluster, Layer.succeed(LocalRay.LocalRay, local))
      const awake = yield* runnerOn(cluster, { pinInterval: Duration.seconds(1) })
      yield* Effect.sleep(Duration.times(expiry, 3))
      assert.deepStrictEqual(yield* add(awake), three)
      assert.strictEqual((yield* run(awake, Tasks.Length, "twelve bytes")).ended._tag, "Succeeded")
    }), 180_000)

  it.live("uploads a package that Ray has forgotten, and asks for its hosts anew", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const local = yield* LocalRay.make({ stateFolder, env: forgetful })
      const cluster = Layer.provide(LocalRay.layerCluster, Layer.succeed(LocalRay.LocalRay, local))
      // As after a machine that slept, or a dashboard that could not be reached for long.
      const runner = yield* runnerOn(cluster, { pinInterval: Duration.hours(1) })
      yield* Effect.sleep(Duration.times(expiry, 2))
      const first = yield* add(runner)
      assert(first._tag === "NotStarted" && first.obstacle.kind === "failed", JSON.stringify(first))
      assert.deepStrictEqual(yield* addAtLast(runner), three)
    }), 180_000)

  it.live(
    "goes on when its cluster was killed and comes back at the same address, the second time too",
    () =>
      Effect.gen(function*() {
        const ports = yield* freePorts(11)
        const token = "f".repeat(64)
        const cluster = RayCluster.layer({ address: `http://127.0.0.1:${ports[1]}`, token: Redacted.make(token) })
        let head = yield* startHead(ports, token)
        yield* Effect.provide(accepts, cluster)
        const runner = yield* runnerOn(cluster, { gatewayPatience: Duration.seconds(1) })
        assert.deepStrictEqual(yield* add(runner), three)
        for (let round = 0; round < 2; round++) {
          yield* killHead(head)
          const pool = runner.pool(Tasks.Add)
          yield* eventually(Effect.sync(() => pool.closed), (closed) => closed !== undefined)
          const lost = yield* add(runner)
          assert(lost._tag === "NotStarted" && lost.obstacle.kind === "unreachable", JSON.stringify(lost))
          head = yield* startHead(ports, token)
          assert.deepStrictEqual(yield* addAtLast(runner), three)
          assert.isUndefined(pool.closed)
        }
      }),
    300_000
  )

  it.live("goes on with the next local head when the one it used has died", () =>
    Effect.gen(function*() {
      const stateFolder = yield* tempFolder
      const local = yield* LocalRay.make({ stateFolder })
      const cluster = Layer.provide(LocalRay.layerCluster, Layer.succeed(LocalRay.LocalRay, local))
      const runner = yield* runnerOn(cluster)
      assert.deepStrictEqual(yield* add(runner), three)
      let { address, pid } = local as LocalRay.Located
      for (let round = 0; round < 2; round++) {
        process.kill(-pid, "SIGKILL")
        yield* eventually(Effect.sync(() => hasMembers(pid)), (alive) => !alive)
        // The gateway lives on for a moment.
        yield* eventually(Effect.sync(() => runner.pool(Tasks.Add).closed), (closed) => closed !== undefined)
        assert.deepStrictEqual(yield* addAtLast(runner), three)
        const next = yield* local.revive
        assert.notStrictEqual(next.address, address)
        assert.isTrue(next.found)
        ;({ address, pid } = next)
      }
    }), 300_000)
})

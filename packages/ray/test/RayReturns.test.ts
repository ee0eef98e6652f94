/** A worker that goes on for long, on a cluster that ends and comes back. */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { type ChildProcess, spawn } from "node:child_process"
import * as net from "node:net"
import * as path from "node:path"
import { hasMembers } from "../src/internal/processes.ts"
import { findRay } from "../src/internal/rayExecutable.ts"
import * as RayCluster from "../src/RayCluster.ts"
import * as Tasks from "./fixtures/tasks.ts"
import { add, addAtLast, runnerOn, three } from "./overTime.ts"
import { eventually, tempFolder } from "./support.ts"

/** The system gives out no port below this by itself. */
const lastOwnPort = 32_767

/**
 * Free ports for a head that goes and comes back to them. Of those that the system gives out another program could get one
 * while the head is down, and then the head would not come back.
 */
const ownPorts = (count: number): Effect.Effect<ReadonlyArray<number>> =>
  Effect.gen(function*() {
    const first = 20_000 + Math.floor(Math.random() * (lastOwnPort - 20_000 - count))
    const ports = Array.from({ length: count }, (_, index) => first + index)
    const free = yield* Effect.forEach(ports, isFree, { concurrency: "unbounded" })
    return free.every(Boolean) ? ports : yield* ownPorts(count)
  })

const isFree = (port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const server = net.createServer()
    server.on("error", () => resume(Effect.succeed(false)))
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(true))))
  })

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
  it.live(
    "goes on when its cluster was killed and comes back at the same address, the second time too",
    () =>
      Effect.gen(function*() {
        const ports = yield* ownPorts(11)
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
    600_000
  )
})

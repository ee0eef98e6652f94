/** What the tests on a real Ray share. */
import { type GatewayRegistry, layerMemory } from "@effect-ray/core/GatewayRegistry"
import type { Ended } from "@effect-ray/core/Outcome"
import type * as Runner from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { randomBytes, randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import * as RayCluster from "../src/RayCluster.ts"
import * as RayRunner from "../src/RayRunner.ts"
import worker from "./fixtures/worker.ts"

export const ray = inject("ray")

/** A client of the run's cluster. */
export const ClusterLive = RayCluster.layer({
  address: ray.address,
  ...(ray.token === "" ? {} : { token: Redacted.make(ray.token) })
})

export const module = fileURLToPath(new URL("./fixtures/worker.ts", import.meta.url))

/** A deployment that no other test and no earlier run has. */
export const newDeployment = (): string => `test-${randomBytes(4).toString("hex")}`

export type RunnerOptions = Partial<Omit<RayRunner.Options, "worker" | "module">>

/** A runner of the fixture worker that shares its registry with others built on the same layer. */
export const runnerLayer = (options: RunnerOptions, controls: (controls: RayRunner.Controls) => void = () => {}) =>
  // No supervisor stands behind most of these tests, so what waits for a host on a busy machine is not to come back.
  RayRunner.layerControlled(
    { deployment: newDeployment(), wait: Duration.minutes(2), ...options, worker, module },
    controls
  ).pipe(
    Layer.provide(ClusterLive)
  )

/** A registry of its own. */
export const RegistryLive: Layer.Layer<GatewayRegistry> = Layer.fresh(layerMemory)

export interface Tried {
  readonly ended: Ended
  /** Where the runner said that it ran. */
  readonly place: Runner.Place | undefined
}

/** An attempt, and what became of its place. */
export const attempt = (
  task: Task.Any,
  payload: unknown,
  options: { readonly suspect?: boolean; readonly traceparent?: string } = {}
) => {
  const started: Array<Runner.Place> = []
  const attempt: Runner.Attempt = {
    execution: randomUUID(),
    fence: 3,
    task,
    queue: "default",
    priority: 5,
    attempt: 1,
    payload: JSON.stringify(payload),
    traceparent: Option.fromNullishOr(options.traceparent),
    suspect: options.suspect ?? false,
    onStart: (place) => started.push(place)
  }
  return { attempt, started }
}

/** Runs an attempt to its end and acknowledges it, as a supervisor does. */
export const run = (
  runner: Runner.Runner["Service"],
  task: Task.Any,
  payload: unknown,
  options?: { readonly suspect?: boolean; readonly traceparent?: string }
): Effect.Effect<Tried> =>
  Effect.gen(function*() {
    const one = attempt(task, payload, options)
    const ended = yield* runner.run(one.attempt)
    yield* runner.acknowledge([one.attempt])
    return { ended, place: one.started[0] }
  })

/** Tries until it holds. The test's own timeout is the bound. */
export const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>, holds: (a: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.repeat(effect, { until: holds, schedule: Schedule.spaced("25 millis") })

/** A folder that is gone after the test. */
export const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-test-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

/** The lines of a file that handlers write; none before it exists. */
export const lines = (file: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.sync(() => fs.existsSync(file) ? fs.readFileSync(file, "utf8").trim().split("\n") : [])

export const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return !/^State:\s+Z/m.test(fs.readFileSync(`/proc/${pid}/status`, "utf8"))
  } catch {
    return false
  }
}

/** Every living process whose environment or command line has these words. */
export const processesWith = (words: string, where: "environ" | "cmdline"): ReadonlyArray<number> =>
  fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try {
      return fs.readFileSync(`/proc/${pid}/${where}`, "utf8").replaceAll("\0", " ").includes(words)
    } catch {
      return false
    }
  })

/** The process of a gateway. */
export const gatewayPid = (submissionId: string): number => {
  const jobs = new Set(processesWith(submissionId, "environ"))
  const found = processesWith("python -m effect_ray_gateway", "cmdline").filter((pid) => jobs.has(pid))
  if (found.length !== 1) throw new Error(`${found.length} processes are the gateway ${submissionId}`)
  return found[0]!
}

/** What the tests on a real Ray share. */
import { type GatewayRegistry, layerMemory } from "@effect-ray/core/GatewayRegistry"
import type { Ended } from "@effect-ray/core/Outcome"
import type * as Runner from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"
import { inject } from "vitest"
import { makeAttempt as attempt } from "../../core/test/runnerSuite/kit.ts"
import * as RayCluster from "../src/RayCluster.ts"
import * as RayRunner from "../src/RayRunner.ts"
import worker from "./fixtures/worker.ts"

export { eventually, lines, makeAttempt as attempt, tempFolder } from "../../core/test/runnerSuite/kit.ts"

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

/** Runs an attempt to its end and acknowledges it, as a supervisor does. */
export const run = (
  runner: Runner.Runner["Service"],
  task: Task.Any,
  payload: unknown
): Effect.Effect<Tried> =>
  Effect.gen(function*() {
    const one = attempt(task, payload)
    const ended = yield* runner.run(one.attempt)
    yield* runner.acknowledge([one.attempt])
    return { ended, place: one.started[0] }
  })

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

/** What the tests of runners that outlive something of their cluster share. */
import type { Ended } from "@effect-ray/core/Outcome"
import * as Runner from "@effect-ray/core/Runner"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import type { Scope } from "effect/Scope"
import type * as RayCluster from "../src/RayCluster.ts"
import * as RayRunner from "../src/RayRunner.ts"
import * as Tasks from "./fixtures/tasks.ts"
import worker from "./fixtures/worker.ts"
import { module, newDeployment, RegistryLive, run } from "./support.ts"

export type Service = Runner.Runner["Service"]

/** A runner on a cluster, of the fixture worker unless another one is named. */
export const runnerOn = (
  cluster: Layer.Layer<RayCluster.RayCluster, unknown>,
  options: Partial<RayRunner.Options> = {}
): Effect.Effect<Service, never, Scope> =>
  RayRunner.layer({ deployment: newDeployment(), wait: Duration.minutes(2), worker, module, ...options }).pipe(
    Layer.provide(cluster),
    Layer.provide(RegistryLive),
    Layer.build,
    Effect.map((context) => Context.get(context, Runner.Runner)),
    Effect.orDie
  )

export const add = (runner: Service): Effect.Effect<Ended> =>
  Effect.map(run(runner, Tasks.Add, { a: 1, b: 2 }), ({ ended }) => ended)

/** As a supervisor does: what comes back without having begun is tried again. */
export const addAtLast = (runner: Service): Effect.Effect<Ended> =>
  Effect.repeat(add(runner), {
    until: (ended) => ended._tag === "Succeeded",
    schedule: Schedule.spaced("500 millis")
  })

export const three: Ended = { _tag: "Succeeded", value: "3" }

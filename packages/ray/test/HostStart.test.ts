/** What is told of hosts that do not come up, on a real Ray. */
import * as Runner from "@effect-ray/core/Runner"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { fileURLToPath } from "node:url"
import type { PoolState } from "../src/GatewayConnection.ts"
import * as RayRunner from "../src/RayRunner.ts"
import worker from "./fixtures/laterWorker.ts"
import { Add } from "./fixtures/tasks.ts"
import { attempt, ClusterLive, eventually, newDeployment, RegistryLive } from "./support.ts"

// One gateway for all of these: it takes longer to start than a host to fail.
const deployment = newDeployment()
const registry = Layer.succeedContext(Effect.runSync(Effect.scoped(Layer.build(RegistryLive))))

/** The first words about why the hosts of this module do not come up. */
const whyNot = Effect.fnUntraced(function*(module: string) {
  const states: Array<PoolState> = []
  const live = RayRunner.layer({
    deployment,
    worker,
    module: fileURLToPath(new URL(`./fixtures/${module}`, import.meta.url)),
    onPoolState: (state) => states.push(state)
  }).pipe(Layer.provide(registry), Layer.provide(ClusterLive))
  const runner = Context.get(yield* Layer.build(live), Runner.Runner)
  const fiber = yield* Effect.forkChild(runner.run(attempt(Add, { a: 1, b: 2 }).attempt))
  yield* eventually(Effect.sync(() => states), (states) => states.some(({ state }) => state === "failed"))
  yield* Fiber.interrupt(fiber)
  return states.find(({ state }) => state === "failed")!.detail
})

describe("a host that does not come up", () => {
  it.live("tells the causes behind a layer that cannot be built", () =>
    Effect.gen(function*() {
      const detail = yield* whyNot("brokenWorker.ts")
      assert.include(detail, "the worker's handlers could not be built: Error: the pool is empty")
      assert.isTrue(
        detail.endsWith("(cause: NoDatabase: {\"host\":\"db.internal\"} (cause: Object: {\"code\":\"ECONNREFUSED\"}))"),
        detail
      )
    }).pipe(Effect.scoped))

  it.live("names the tasks that have no handler", () =>
    Effect.gen(function*() {
      const detail = yield* whyNot("incompleteWorker.ts")
      assert.include(detail, "no handler for Add: pass the layers that toLayer returns to Worker.make({ handlers })")
    }).pipe(Effect.scoped))

  it.live("tells what a module threw when it was imported, even where that is no error", () =>
    Effect.gen(function*() {
      const detail = yield* whyNot("throwingWorker.ts")
      assert.include(
        detail,
        "the worker's handlers could not be built: a handler thread crashed: Object: {\"code\":28,\"disk\":\"full\"}"
      )
      // Long words leave room for the root, and the frames come before them.
      const long = yield* whyNot("crashingWorker.ts")
      assert.match(long, /a handler thread crashed: Error: x+… \(cause: RangeError: the disk is full\)$/)
    }).pipe(Effect.scoped))
})

/** What becomes of attempts when processes are killed and connections cut. */
import { type GatewayEntry, GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import * as Limits from "@effect-ray/core/Limits"
import { Ended } from "@effect-ray/core/Outcome"
import * as Runner from "@effect-ray/core/Runner"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Frame from "../src/Frame.ts"
import { submissionId } from "../src/Gateway.ts"
import * as RayRunner from "../src/RayRunner.ts"
import laterWorker from "./fixtures/laterWorker.ts"
import * as Tasks from "./fixtures/tasks.ts"
import {
  attempt,
  ClusterLive,
  eventually,
  gatewayPid,
  isAlive,
  lines,
  newDeployment,
  ray,
  RegistryLive,
  run,
  type RunnerOptions,
  runnerLayer,
  tempFolder
} from "./support.ts"

/** A runner with its registry, its deployment and the means to disturb it, for as long as the test. */
const disturbedIn = Effect.fnUntraced(function*(registry: Layer.Layer<GatewayRegistry>, options: RunnerOptions) {
  const deployment = options.deployment ?? newDeployment()
  let controls: RayRunner.Controls | undefined
  const live = runnerLayer({ deployment, idle: Duration.seconds(1), ...options }, (given) => controls = given).pipe(
    Layer.provideMerge(registry)
  )
  const context = yield* Layer.build(live)
  return {
    runner: Context.get(context, Runner.Runner),
    registry: Context.get(context, GatewayRegistry),
    context,
    deployment,
    connection: () => controls!.connection()
  }
})

/** With a gateway of its own. */
const disturbed = (options: RunnerOptions = {}) => disturbedIn(RegistryLive, options)

const shared = {
  deployment: newDeployment(),
  registry: Layer.succeedContext(Effect.runSync(Effect.scoped(Layer.build(RegistryLive))))
}

/** With the gateway of all tests that do no harm to it: one takes seconds to start. */
const joined = (options: RunnerOptions = {}) =>
  disturbedIn(shared.registry, { deployment: shared.deployment, idle: Duration.minutes(1), ...options })

/** The process of the deployment's gateway, whichever epoch that is. */
const currentGateway = ({ deployment, registry }: { deployment: string; registry: GatewayRegistry["Service"] }) =>
  Effect.map(registry.current(deployment, ray.address), (entry) => gatewayPid(Option.getOrThrow(entry).submissionId))

/** Attempts that write a line when they begin and end when they are let go. */
const gates = Effect.fnUntraced(function*(runner: Runner.Runner["Service"], count: number) {
  const folder = yield* tempFolder
  const release = path.join(folder, "release")
  const all = yield* Effect.forEach(
    Array.from({ length: count }, (_, index) => index),
    (index) =>
      Effect.gen(function*() {
        const file = path.join(folder, String(index))
        const one = attempt(Tasks.Gate, { file, release })
        const fiber = yield* Effect.forkChild(runner.run(one.attempt), { uninterruptible: true })
        return { ...one, file, fiber }
      })
  )
  yield* eventually(
    Effect.forEach(
      all,
      ({ file, started }) => Effect.map(lines(file), (written) => written.length > 0 && started.length > 0)
    ),
    (begun) => begun.every(Boolean)
  )
  return { all, release: Effect.sync(() => fs.writeFileSync(release, "")) }
})

describe("RayRunner under faults", () => {
  it.live("a host that is killed loses its attempts at once, and another takes its place", () =>
    Effect.gen(function*() {
      const { runner } = yield* joined()
      const { all, release } = yield* gates(runner, 5)
      const pid = all[0]!.started[0]!.pid
      const killedAt = performance.now()
      process.kill(pid, "SIGKILL")
      for (const { fiber, started } of all.filter(({ started }) => started[0]!.pid === pid)) {
        const ended = yield* Fiber.join(fiber)
        assert(ended._tag === "Lost", `${started[0]!.host} answered ${ended._tag}`)
      }
      assert.isBelow(performance.now() - killedAt, 3_000)
      yield* release
      const { ended, place } = yield* run(runner, Tasks.Add, { a: 1, b: 2 })
      assert.deepStrictEqual(ended, Ended.Succeeded({ value: "3" }))
      assert.notStrictEqual(place!.pid, pid)
    }))

  it.live("an attempt that may have begun says so, though its host died before it could", () =>
    Effect.gen(function*() {
      const { runner } = yield* joined({ grace: Duration.millis(100) })
      const file = path.join(yield* tempFolder, "freeze")
      const { attempt: given, started } = attempt(Tasks.Freeze, { file })
      const fiber = yield* Effect.forkChild(runner.run(given), { uninterruptible: true })
      yield* eventually(lines(file), (written) => written.length > 0)
      yield* Fiber.interrupt(fiber)
      // Its host does not answer, is killed, and with that the attempt has certainly stopped.
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.succeed(Ended.Interrupted({ confirmed: true })))
      assert.lengthOf(started, 1)
    }))

  it.live("a connection that is cut is dialled again, and nothing runs twice", () =>
    Effect.gen(function*() {
      const { connection, runner } = yield* joined()
      const { all, release } = yield* gates(runner, 8)
      for (let cut = 0; cut < 3; cut++) {
        connection()!.cut()
        // Calls made meanwhile wait for the connection.
        const { ended } = yield* run(runner, Tasks.Add, { a: cut, b: 1 })
        assert.deepStrictEqual(ended, Ended.Succeeded({ value: String(cut + 1) }))
      }
      connection()!.cut()
      yield* release
      for (const { fiber, file, started } of all) {
        assert.deepStrictEqual(yield* Fiber.join(fiber), Ended.Succeeded({ value: String(started[0]!.pid) }))
        assert.strictEqual((yield* lines(file)).length, 1)
        assert.strictEqual(started.length, 1)
      }
    }))

  it.live("results that arrive while the connection is cut are not lost, and acknowledged ones not repeated", () =>
    Effect.gen(function*() {
      const { connection, runner } = yield* joined()
      yield* run(runner, Tasks.Add, { a: 0, b: 0 })
      const results = yield* Effect.all([
        Effect.forEach(
          Array.from({ length: 3_000 }, (_, index) => index),
          (index) => run(runner, Tasks.Add, { a: index, b: 0 }),
          {
            concurrency: 100
          }
        ),
        Effect.forEach(
          Array.from({ length: 10 }),
          () => Effect.andThen(Effect.sync(() => connection()?.cut()), run(runner, Tasks.Echo, "between"))
        )
      ], { concurrency: 2 })
      assert.deepStrictEqual(
        results[0].map(({ ended }) => ended),
        Array.from({ length: 3_000 }, (_, index) => Ended.Succeeded({ value: String(index) }))
      )
      assert.strictEqual(connection()!.pending, 0)
    }))

  it.live("a gateway that is killed loses what it held at once; the next epoch takes its place", () =>
    Effect.gen(function*() {
      const { deployment, registry, runner } = yield* disturbed()
      const { all, release } = yield* gates(runner, 6)
      const hosts = new Set(all.map(({ started }) => started[0]!.pid))
      const killedAt = performance.now()
      process.kill(gatewayPid(submissionId(deployment, 1)), "SIGKILL")
      for (const { fiber } of all) {
        const ended = yield* Fiber.join(fiber)
        // Not the attempts' doing, so it is not counted against them.
        assert(ended._tag === "Lost" && ended.collateral)
      }
      assert.isBelow(performance.now() - killedAt, 3_000)
      const { ended } = yield* run(runner, Tasks.Add, { a: 2, b: 3 })
      assert.deepStrictEqual(ended, Ended.Succeeded({ value: "5" }))
      const current = yield* registry.current(deployment, ray.address)
      assert.strictEqual(Option.getOrThrow(current).epoch, 2)
      yield* eventually(Effect.sync(() => Array.from(hosts).filter(isAlive)), (alive) => alive.length === 0)
      yield* release
    }))

  it.live("workers of one deployment share a gateway, and each gets its own results", () =>
    Effect.gen(function*() {
      const { context, deployment, registry, runner } = yield* joined()
      const second = yield* Layer.build(
        runnerLayer({ deployment }).pipe(Layer.provide(Layer.succeedContext(context)))
      )
      const both = [runner, Context.get(second, Runner.Runner)]
      const results = yield* Effect.forEach(both, (one, index) =>
        Effect.forEach(
          Array.from({ length: 200 }, (_, call) => call),
          (call) => run(one, Tasks.Add, { a: call, b: index * 1_000 }),
          { concurrency: 20 }
        ), { concurrency: 2 })
      assert.deepStrictEqual(
        results.map((own) => own.map(({ ended }) => ended)),
        [0, 1_000].map((base) =>
          Array.from({ length: 200 }, (_, call) => Ended.Succeeded({ value: String(call + base) }))
        )
      )
      assert.isTrue(isAlive(yield* currentGateway({ deployment, registry })))
    }))

  it.live("workers of two builds share a gateway, and each runs its own", () =>
    Effect.gen(function*() {
      const { context, deployment, registry, runner } = yield* joined()
      const later = RayRunner.layer({
        deployment,
        worker: laterWorker,
        module: fileURLToPath(new URL("./fixtures/laterWorker.ts", import.meta.url))
      })
      const second = yield* Layer.build(Layer.provide(later, [ClusterLive, Layer.succeedContext(context)]))
      const values = (runner: Runner.Runner["Service"]) =>
        Effect.forEach(
          Array.from({ length: 50 }, (_, call) => call),
          (call) => Effect.map(run(runner, Tasks.Add, { a: call, b: 0 }), ({ ended }) => ended),
          { concurrency: 10 }
        )
      const both = yield* Effect.forEach([runner, Context.get(second, Runner.Runner)], values, { concurrency: 2 })
      assert.deepStrictEqual(
        both,
        [0, 1_000].map((more) => Array.from({ length: 50 }, (_, call) => Ended.Succeeded({ value: `${call + more}` })))
      )
      assert.isTrue(isAlive(yield* currentGateway({ deployment, registry })))
    }))

  it.live("workers with another registry get a gateway of their own, under the same deployment", () =>
    Effect.gen(function*() {
      const first = yield* disturbed()
      const second = yield* disturbed({ deployment: first.deployment })
      assert.strictEqual(
        Option.getOrThrow(yield* second.registry.current(first.deployment, ray.address)).epoch,
        2
      )
      for (const { runner } of [first, second]) {
        const { ended } = yield* run(runner, Tasks.Add, { a: 1, b: 1 })
        assert.deepStrictEqual(ended, Ended.Succeeded({ value: "2" }))
      }
      assert.isTrue([1, 2].every((epoch) => isAlive(gatewayPid(submissionId(first.deployment, epoch)))))
    }))

  it.live("when the last worker has gone its attempts end, and so do hosts and gateway", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      const file = path.join(folder, "wait")
      const left = yield* Effect.scoped(Effect.gen(function*() {
        const { deployment, runner } = yield* disturbed()
        const waiting = attempt(Tasks.Wait, { file })
        yield* Effect.forkDetach(runner.run(waiting.attempt))
        yield* eventually(Effect.sync(() => waiting.started.length), (length) => length === 1)
        return { pid: waiting.started[0]!.pid, gateway: gatewayPid(submissionId(deployment, 1)) }
      }))
      yield* eventually(lines(file), (written) => written.includes("interrupted"))
      yield* eventually(Effect.sync(() => [left.pid, left.gateway].filter(isAlive)), (alive) => alive.length === 0)
    }))

  it.live("a pool that the gateway refuses ends its calls with the reason", () =>
    Effect.gen(function*() {
      const { runner } = yield* Effect.provideService(joined(), Limits.MaxResultBytes, 1024 * 1024 * 1024)
      for (const task of [Tasks.Add, Tasks.Echo]) {
        const { ended } = yield* run(runner, task, { a: 1, b: 2 })
        assert(ended._tag === "Died" && ended.reason._tag === "Unschedulable", JSON.stringify(ended))
        assert.include(ended.reason.detail, "maxResultBytes is 1073741824")
      }
    }))

  it.live("a worker that every gateway refuses is told why, and no more gateways are started", () =>
    Effect.gen(function*() {
      const refused = Effect.provideService(disturbed(), Limits.MaxPayloadBytes, 1024 * 1024 * 1024)
      const error = yield* Effect.flip(refused)
      assert.include(error.message, "it refused this worker: 1073741824 is not a number from 0 to 268435456")
    }))

  it.live("a gateway that advertises a public address is not dialled", () =>
    Effect.gen(function*() {
      const deployment = newDeployment()
      const registry = yield* Layer.build(RegistryLive)
      const entry: GatewayEntry = {
        deployment,
        cluster: ray.address,
        epoch: 1,
        submissionId: submissionId(deployment, 1),
        protocol: Frame.protocol,
        secret: Redacted.make("00"),
        address: Option.none()
      }
      const { open, publish } = Context.get(registry, GatewayRegistry)
      assert.isTrue(yield* open(entry))
      yield* publish(entry, { host: "203.0.113.7", port: 4_000 })
      const live = Layer.provide(runnerLayer({ deployment }), Layer.succeedContext(registry))
      const error = yield* Effect.flip(Layer.build(live))
      assert.include(error.message, "203.0.113.7:4000, which cannot be dialled")
      assert.include(error.message, "advertise a private address")
    }))
})

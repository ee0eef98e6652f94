/** A supervisor beside pools whose processes come and go: what is held back, what goes on, and what fails in the end. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Logger, Option, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  Broker,
  BrokerError,
  MemoryBroker,
  Outcome,
  Runner,
  Supervisor,
  Task,
  TaskError,
  Worker
} from "../src/index.ts"

class Needy extends Task.make("Needy", {
  payload: { n: Schema.Int, seconds: Schema.optional(Schema.Int) },
  success: Schema.Int
}) {}
class Healthy extends Task.make("Healthy", { payload: { n: Schema.Int }, success: Schema.Int }) {}
class Long extends Task.make("Long", { payload: { seconds: Schema.Int }, success: Schema.Int }) {}

const worker = Worker.make({
  tasks: [Needy, Healthy, Long],
  handlers: Layer.mergeAll(
    Needy.toLayer(({ n }) => Effect.succeed(n)),
    Healthy.toLayer(({ n }) => Effect.succeed(n)),
    Long.toLayer(({ seconds }) => Effect.succeed(seconds))
  )
})

const place: Runner.Place = { host: "host", node: "node", pid: 1 }

/** A runner with one pool for `Needy`, whose hosts the test has in its hands, and others that always have some. */
const makeRunner = (limits: { readonly long?: number } = {}) => {
  const endless = Number.POSITIVE_INFINITY
  const needy: { limit: number; closed: string | undefined } = { limit: 0, closed: undefined }
  const others: Runner.Pool = { limit: endless, closed: undefined }
  const long: Runner.Pool = { limit: limits.long ?? endless, closed: undefined }
  const state = {
    needy,
    tries: 0,
    tryTime: "100 millis" as Duration.Input,
    /** A try finds a process, and runs. */
    found: false,
    inFlight: 0,
    most: 0,
    obstacle: { kind: "failed", detail: "the bundle throws" } as Outcome.Obstacle,
    hear: () => {}
  }
  const service = Runner.Runner.of({
    name: "pools",
    supports: () => true,
    isolatesSuspects: () => true,
    pool: ({ _tag }) => _tag === "Needy" ? needy : _tag === "Long" ? long : others,
    listen: (hear) =>
      Effect.sync(() => {
        state.hear = hear
      }),
    run: (attempt) =>
      Effect.suspend((): Effect.Effect<Outcome.Ended> => {
        if (attempt.task._tag === "Needy" && needy.limit === 0 && !state.found) {
          state.tries++
          return Effect.as(Effect.sleep(state.tryTime), Outcome.Ended.NotStarted({ obstacle: state.obstacle }))
        }
        attempt.onStart(place)
        const { n, seconds } = JSON.parse(attempt.payload)
        const work = Effect.as(
          Effect.sleep(Duration.seconds(seconds ?? 0)),
          Outcome.Ended.Succeeded({ value: String(n ?? seconds) })
        )
        if (attempt.task._tag !== "Long") return work
        state.most = Math.max(state.most, ++state.inFlight)
        return Effect.ensuring(Effect.interruptible(work), Effect.sync(() => state.inFlight--))
      }),
    acknowledge: () => Effect.void
  })
  return { state, service }
}

const told = (lines: ReadonlyArray<string>) => lines.filter((line) => line.startsWith("executions of these tasks"))

/** Runs the body beside a supervisor for each of these runners, over one memory broker. Collects the log's lines. */
const serve = <A, E>(
  runners: ReturnType<typeof makeRunner> | ReadonlyArray<ReturnType<typeof makeRunner>>,
  body: (lines: ReadonlyArray<string>, claims: { readonly count: number }) => Effect.Effect<A, E, Broker.Broker>,
  options: Partial<Supervisor.Options> = {}
) => {
  const lines: Array<string> = []
  const claims = { count: 0 }
  const broker = Layer.effect(
    Broker.Broker,
    Effect.map(Broker.Broker, (broker) => ({
      ...broker,
      claim: (options) => Effect.suspend(() => (claims.count++, broker.claim(options)))
    }))
  ).pipe(Layer.provide(MemoryBroker.layer))
  const logger = Logger.map(Logger.formatStructured, (line) => void lines.push(String(line.message)))
  return Effect.gen(function*() {
    const supervisors = yield* Effect.forEach(
      [runners].flat(),
      ({ service }) =>
        Supervisor.run({ worker, concurrency: 10, drain: "1 second", ...options }).pipe(
          Effect.provideService(Runner.Runner, service),
          Effect.forkChild
        )
    )
    const result = yield* Effect.exit(body(lines, claims))
    const stopping = yield* Effect.forkChild(Fiber.interruptAll(supervisors))
    yield* TestClock.adjust("30 seconds")
    yield* Fiber.join(stopping)
    return yield* result
  }).pipe(Effect.provide(broker), Effect.provide(Logger.layer([logger])))
}

const record = (id: string) => Effect.flatMap(Broker.Broker, (broker) => Effect.map(broker.read(id), Option.getOrThrow))

const states = (ids: ReadonlyArray<{ readonly id: string }>) =>
  Effect.map(Effect.forEach(ids, ({ id }) => record(id)), (records) => {
    const counts: Partial<Record<Broker.State, number>> = {}
    for (const { state } of records) counts[state] = (counts[state] ?? 0) + 1
    return counts
  })

const pass = (seconds: number) =>
  Effect.forEach(Array.from({ length: seconds * 10 }), () => TestClock.adjust("100 millis"), { discard: true })

const reasonOf = <A>(exit: Exit.Exit<A, unknown>): TaskError.Reason => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit))
  assert(error instanceof TaskError.TaskError)
  return error.reason
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => ({ n }))

describe("Pools", () => {
  it.effect("lets one task without a host hold up no other, though it is first in line", () => {
    const runner = makeRunner()
    return serve(runner, () =>
      Effect.gen(function*() {
        const broker = yield* Broker.Broker
        const needy = yield* Task.enqueueAll(Needy, numbers(250), { priority: 9 })
        const healthy = yield* Task.enqueueAll(Healthy, numbers(100), { priority: 0 })
        yield* pass(1)
        assert.deepStrictEqual(yield* states(healthy), { succeeded: 100 })
        yield* pass(60)
        const counts = yield* states(needy)
        assert.isAtMost(counts.running ?? 0, 1)
        assert.strictEqual((counts.running ?? 0) + counts.queued!, 250)
        // Of 1, 2, 4 … 30 seconds between two tries there are six in a minute.
        assert.isAtLeast(runner.state.tries, 5)
        assert.isAtMost(runner.state.tries, 7)
        for (const { id } of needy.slice(0, 10)) {
          assert.deepStrictEqual(yield* broker.attempts(id), [], "what never began leaves no attempt")
          const { attempts, held, losses, state } = yield* record(id)
          assert.deepStrictEqual([attempts, losses], [0, 0])
          if (state === "queued") assert.include(Option.getOrThrow(held), "the bundle throws")
        }
        const more = yield* Task.enqueueAll(Healthy, numbers(100))
        yield* pass(1)
        assert.deepStrictEqual(yield* states(more), { succeeded: 100 })
      }))
  })

  it.effect("goes on at once when the pool has a host, and holds back anew when it has lost it", () => {
    const runner = makeRunner()
    const { needy } = runner.state
    return serve(runner, (lines) =>
      Effect.gen(function*() {
        for (let round = 1; round <= 3; round++) {
          const executions = yield* Task.enqueueAll(Needy, numbers(50))
          yield* pass(20)
          assert.strictEqual((yield* states(executions)).succeeded, undefined)
          const held = (yield* record(executions[49]!.id)).held
          assert.include(Option.getOrThrow(held), "the bundle throws")
          needy.limit = 10
          runner.state.hear()
          yield* pass(1)
          assert.deepStrictEqual(yield* states(executions), { succeeded: 50 })
          assert.lengthOf(told(lines), 2 * round, "each change is told once")
          needy.limit = 0
          runner.state.hear()
        }
        // The delay begins at a second each time: after 20 s there were tries at 0, 1, 3, 7 and 15 s.
        assert.isAtLeast(runner.state.tries, 12)
        assert.isAtMost(runner.state.tries, 18)
      }))
  })

  it.effect("tells a reason again when it has changed", () => {
    const runner = makeRunner()
    return serve(runner, (lines) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Needy, { n: 1 })
        yield* pass(40)
        assert.lengthOf(told(lines), 1)
        runner.state.obstacle = { kind: "waiting", detail: "CPU, available 0 of 2" }
        yield* pass(40)
        assert.lengthOf(told(lines), 2)
        assert.include(Option.getOrThrow((yield* record(execution.id)).held), "available 0 of 2")
      }))
  })

  it.effect("does not tell a reason again for each other word, nor two in turns", () => {
    const runner = makeRunner()
    return serve(runner, (lines) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Needy, { n: 1 })
        const held = Effect.map(record(execution.id), ({ held }) => Option.getOrThrow(held))
        for (let minute = 0; minute < 24; minute++) {
          const detail = `request ${minute}`
          runner.state.obstacle = minute % 2 === 0 ? { kind: "failed", detail } : { kind: "starting", detail }
          yield* pass(60)
          if (minute === 2) assert.include(yield* held, "request 1")
        }
        assert.isAtMost(told(lines).length, 6)
        assert.isAtLeast(told(lines).length, 4)
        assert.match(yield* held, /request (1[6-9]|2\d)/)
      }), { unschedulableAfter: "1 day" })
  })

  for (
    const [kind, tag] of [["failed", "HostFailed"], ["unschedulable", "Unschedulable"]] as const
  ) {
    it.effect(`fails with ${tag} what has waited as long as the patience, and lets wait what has not`, () => {
      const runner = makeRunner()
      runner.state.obstacle = { kind, detail: "the reason" }
      return serve(runner, (lines) =>
        Effect.gen(function*() {
          const old = yield* Task.enqueueAll(Needy, numbers(1_200))
          yield* pass(100)
          const young = yield* Task.enqueueAll(Needy, numbers(10))
          assert.strictEqual((yield* states(old)).failed, undefined)
          yield* pass(60)
          assert.deepStrictEqual(yield* states(old), { failed: 1_200 })
          assert.lengthOf(lines.filter((line) => line.startsWith("executions failed")), 1)
          assert.strictEqual((yield* states(young)).failed, undefined)
          const reason = reasonOf(yield* Effect.exit(old[1_000]!.await))
          assert(reason._tag === tag)
          assert.strictEqual(reason.detail, "the reason")
          yield* pass(120)
          assert.deepStrictEqual(yield* states(young), { failed: 10 })
        }), { unschedulableAfter: "2 minutes" })
    })
  }

  it.effect("fails what has waited too long though more and more of a higher priority comes before it", () => {
    const runner = makeRunner()
    return serve(runner, () =>
      Effect.gen(function*() {
        const old = yield* Task.enqueueAll(Needy, numbers(20), { priority: 1 })
        const fresh = yield* Effect.forEach(
          Array.from({ length: 110 }),
          () => Task.enqueueAll(Needy, numbers(10), { priority: 9 }).pipe(Effect.tap(pass(1)))
        )
        assert.deepStrictEqual(yield* states(old), { failed: 20 })
        assert.strictEqual((yield* states(fresh.slice(60).flat())).failed, undefined)
        const healthy = yield* Task.enqueueAll(Healthy, numbers(10), { priority: 0 })
        yield* pass(1)
        assert.deepStrictEqual(yield* states(healthy), { succeeded: 10 })
      }), { unschedulableAfter: "1 minute" })
  })

  it.effect("fails nothing that another worker is busy with, may have a process for later, or has just begun to try", () => {
    const broken = makeRunner()
    const busy = makeRunner()
    busy.state.needy.limit = 1
    return serve([broken, busy], (lines) =>
      Effect.gen(function*() {
        const work = yield* Task.enqueueAll(Needy, numbers(40).map((payload) => ({ ...payload, seconds: 5 })))
        yield* pass(250)
        assert.deepStrictEqual(yield* states(work), { succeeded: 40 })
        assert.isAbove(broken.state.tries, 5)

        const late = yield* Task.enqueueAll(Needy, numbers(10))
        busy.state.needy.limit = 0
        busy.state.obstacle = { kind: "starting", detail: "packages are installed" }
        busy.state.hear()
        yield* pass(250)
        assert.strictEqual((yield* states(late)).failed, undefined)
        busy.state.obstacle = { kind: "failed", detail: "the bundle throws" }
        yield* pass(40)
        assert.strictEqual((yield* states(late)).failed, undefined)
        yield* pass(90)
        assert.deepStrictEqual(yield* states(late), { failed: 10 })
        assert.lengthOf(lines.filter((line) => line.startsWith("executions failed")), 1)
      }), { unschedulableAfter: "1 minute" })
  })

  it.effect("lets an execution wait for resources however long that takes", () => {
    const runner = makeRunner()
    runner.state.obstacle = { kind: "waiting", detail: "CPU, available 0 of 2" }
    return serve(runner, () =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Needy, { n: 7 })
        yield* pass(600)
        assert.notStrictEqual((yield* record(execution.id)).state, "failed")
        // From here on it can only fail for good, and the patience begins.
        runner.state.obstacle = { kind: "failed", detail: "the bundle throws" }
        yield* pass(40)
        assert.notStrictEqual((yield* record(execution.id)).state, "failed")
        runner.state.needy.limit = 1
        runner.state.hear()
        yield* pass(1)
        assert.strictEqual(yield* execution.await, 7)
      }), { unschedulableAfter: "1 minute" })
  })

  it.effect("claims nothing for a pool that is closed, and gives back what it has ahead", () => {
    const runner = makeRunner()
    const { needy } = runner.state
    needy.closed = "no gateway"
    return serve(runner, () =>
      Effect.gen(function*() {
        const executions = yield* Task.enqueueAll(Needy, numbers(20))
        yield* pass(60)
        assert.deepStrictEqual(yield* states(executions), { queued: 20 })
        assert.strictEqual(runner.state.tries, 0)
        assert.include(Option.getOrThrow((yield* record(executions[0]!.id)).held), "no gateway")
        needy.closed = undefined
        needy.limit = 20
        runner.state.hear()
        yield* pass(1)
        assert.deepStrictEqual(yield* states(executions), { succeeded: 20 })
        assert.deepStrictEqual((yield* record(executions[0]!.id)).held, Option.none())
      }))
  })

  it.effect("lets go on what is running at a pool that closes, and nothing else", () => {
    const runner = makeRunner()
    const { needy } = runner.state
    needy.limit = 4
    return serve(runner, () =>
      Effect.gen(function*() {
        const payloads = Array.from({ length: 10 }, (_, n) => ({ n, seconds: 5 }))
        const executions = yield* Task.enqueueAll(Needy, payloads)
        yield* pass(1)
        assert.strictEqual((yield* states(executions)).running, 4)
        needy.closed = "no gateway"
        needy.limit = 0
        runner.state.hear()
        yield* pass(10)
        assert.deepStrictEqual(yield* states(executions), { succeeded: 4, queued: 6 })
      }))
  })

  it.effect("has no more in flight at a pool than that is worth, whatever its concurrency", () => {
    const runner = makeRunner({ long: 2 })
    return serve(runner, () =>
      Effect.gen(function*() {
        yield* Task.enqueueAll(Long, Array.from({ length: 50 }, () => ({ seconds: 600 })), { priority: 9 })
        yield* pass(2)
        const healthy = yield* Task.enqueueAll(Healthy, numbers(20), { priority: 0 })
        yield* pass(1)
        assert.deepStrictEqual(yield* states(healthy), { succeeded: 20 })
        assert.strictEqual(runner.state.most, 2)
      }))
  })

  it.effect("claims no more than any idle worker while a pool is held back and nothing is there to try it with", () => {
    const runner = makeRunner()
    return serve(runner, (_, claims) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Needy, { n: 1 })
        yield* pass(10)
        yield* execution.cancel
        yield* pass(10)
        const before = claims.count
        yield* pass(60)
        assert.isAtMost(claims.count - before, 15)
      }))
  })

  it.effect("gives no slot to an attempt that looks for a process", () => {
    const runner = makeRunner()
    runner.state.tryTime = "10 seconds"
    return serve(runner, () =>
      Effect.gen(function*() {
        yield* Task.enqueueAll(Needy, numbers(20), { priority: 9 })
        yield* pass(1)
        assert.strictEqual(runner.state.tries, 1)
        const healthy = yield* Task.enqueueAll(Healthy, numbers(20), { priority: 0 })
        yield* pass(1)
        assert.strictEqual(runner.state.tries, 1)
        assert.deepStrictEqual(yield* states(healthy), { succeeded: 20 })
      }), { concurrency: 1 })
  })

  it.effect("gives it one when it has found a process and its handler begins", () => {
    const runner = makeRunner()
    runner.state.found = true
    return serve(runner, () =>
      Effect.gen(function*() {
        const needy = yield* Task.enqueue(Needy, { n: 1, seconds: 60 })
        yield* pass(1)
        yield* Task.enqueueAll(Long, Array.from({ length: 20 }, () => ({ seconds: 10 })))
        yield* pass(30)
        assert.strictEqual((yield* record(needy.id)).state, "running")
        assert.strictEqual(runner.state.most, 1)
        yield* pass(60)
        assert.strictEqual(yield* needy.await, 1)
        assert.strictEqual(runner.state.most, 2)
      }), { concurrency: 2 })
  })

  it.effect("cancels what is held back, and what is being tried", () => {
    const runner = makeRunner()
    return serve(runner, () =>
      Effect.gen(function*() {
        const [first, second] = yield* Task.enqueueAll(Needy, numbers(2))
        yield* TestClock.adjust("50 millis")
        assert.strictEqual((yield* record(first!.id)).state, "running")
        assert.strictEqual(yield* first!.cancel, "Requested")
        assert.strictEqual(yield* second!.cancel, "Cancelled")
        yield* pass(2)
        assert.deepStrictEqual(yield* states([first!, second!]), { cancelled: 2 })
      }))
  })

  it.effect("lets others start at once beside an attempt that looks for a process, in whatever order they come", () => {
    const runner = makeRunner()
    runner.state.tryTime = "10 minutes"
    return serve(runner, () =>
      Effect.gen(function*() {
        yield* Task.enqueueAll(Needy, numbers(20), { priority: 9 })
        const healthy = yield* Task.enqueueAll(Healthy, numbers(20), { priority: 0 })
        yield* pass(1)
        assert.strictEqual(runner.state.tries, 1)
        assert.deepStrictEqual(yield* states(healthy), { succeeded: 20 })
      }), { concurrency: 1 })
  })

  it.effect("fails nothing of another pool that is recovered at the same time", () => {
    const runner = makeRunner()
    return Effect.gen(function*() {
      const broker = yield* Broker.Broker
      let hides = true
      let breaks = true
      // A claim of `Healthy` is made that the supervisor does not hear of, and the response of a later one is lost.
      const forgetful: Broker.Broker["Service"] = {
        ...broker,
        claim: (options) =>
          Effect.flatMap(broker.claim(options), (claimed) => {
            if (options.waited !== undefined && breaks) {
              breaks = false
              const reason = new BrokerError.Unavailable({ operation: "claim", detail: "no response" })
              return Effect.fail(new BrokerError.BrokerError({ reason }))
            }
            const known = claimed.filter(({ task }) => !hides || task !== "Healthy")
            if (known.length < claimed.length) hides = false
            return Effect.succeed(known)
          })
      }
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, unschedulableAfter: "1 minute" }).pipe(
        Effect.provideService(Broker.Broker, forgetful),
        Effect.provideService(Runner.Runner, runner.service),
        Effect.forkChild
      )
      const needy = yield* Task.enqueueAll(Needy, numbers(3))
      const healthy = yield* Task.enqueue(Healthy, { n: 1 })
      yield* pass(140)
      assert.deepStrictEqual(yield* states(needy), { failed: 3 })
      assert.deepStrictEqual(yield* states([healthy]), { succeeded: 1 })
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("60 seconds")
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer))
  })
})

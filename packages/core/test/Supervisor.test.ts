import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Latch,
  Layer,
  Logger,
  Option,
  Ref,
  Schedule,
  Schema,
  Tracer
} from "effect"
import { TestClock } from "effect/testing"
import {
  Broker,
  BrokerError,
  Envelope,
  InProcessRunner,
  Limits,
  MemoryBroker,
  Outcome,
  Runner,
  Supervisor,
  Task,
  TaskError,
  Worker
} from "../src/index.ts"
import { tickAndKeepUp } from "./brokerSuite/kit.ts"

class Broken extends Schema.TaggedError<Broken>()("Broken", { what: Schema.String }) {}

class Double extends Task.make("Double", { payload: { n: Schema.Int }, success: Schema.Int }) {}
class Fail extends Task.make("Fail", {
  payload: { final: Schema.Boolean },
  error: Broken,
  retry: {
    attempts: 3,
    schedule: Schedule.spaced("10 seconds"),
    while: (e) => !(e._tag === "Broken" && e.what === "final")
  }
}) {}
class Die extends Task.make("Die", { retry: { attempts: 1 } }) {}
class Chain extends Task.make("Chain", { retry: { attempts: 1 } }) {}
class Unencodable extends Task.make("Unencodable", { success: Schema.Any, retry: { attempts: 3 } }) {}
class Sleep
  extends Task.make("Sleep", { payload: { millis: Schema.Int }, timeout: "1 minute", retry: { attempts: 1 } })
{}
class Careless extends Task.make("Careless", {
  error: Broken,
  retry: {
    while: () => {
      throw new Error("the policy is broken")
    }
  }
}) {}
const undecided = Schedule.addDelay(Schedule.spaced("1 second"), () => Effect.never)
class Thoughtful extends Task.make("Thoughtful", { error: Broken, retry: undecided }) {}
class Once extends Task.make("Once", {
  payload: { millis: Schema.Int },
  error: Broken,
  atMostOnce: true,
  retry: { attempts: 5 }
}) {}
class Promised extends Task.make("Promised", {
  payload: { how: Schema.Literals(["deaf", "listening", "kept"]) },
  timeout: "1 second",
  retry: { attempts: 2, schedule: Schedule.spaced("1 second") }
}) {}
class Itself extends Task.make("Itself", { retry: { attempts: 2, schedule: Schedule.spaced("1 second") } }) {}
class Untidy extends Task.make("Untidy", { timeout: "1 second", retry: { attempts: 1 } }) {}
class Stubborn extends Task.make("Stubborn", { timeout: "1 second", retry: { attempts: 1 } }) {}

const endless: Runner.Pool = { limit: Number.POSITIVE_INFINITY, closed: undefined }

interface Seen {
  readonly running: Ref.Ref<number>
  readonly most: Ref.Ref<number>
  readonly interrupted: Ref.Ref<number>
  readonly release: Deferred.Deferred<void>
  /** What became of the promises that `Promised` has made. */
  readonly promises: Array<"pending" | "aborted">
}

const makeSeen = Effect.all({
  running: Ref.make(0),
  most: Ref.make(0),
  interrupted: Ref.make(0),
  release: Deferred.make<void>(),
  promises: Effect.sync((): Seen["promises"] => [])
})

/** A promise that ends with the test at the latest, or when it is aborted. */
const promise = (seen: Seen, signal?: AbortSignal): Promise<void> => {
  const index = seen.promises.push("pending") - 1
  const aborted = new Promise<void>((resolve) =>
    signal?.addEventListener("abort", () => {
      seen.promises[index] = "aborted"
      resolve()
    })
  )
  return Promise.race([aborted, Effect.runPromise(Deferred.await(seen.release))])
}

const promised = (seen: Seen, how: typeof Promised.payloadSchema.Type["how"]): Effect.Effect<void> => {
  switch (how) {
    case "deaf":
      return Effect.promise(() => promise(seen))
    case "listening":
      return Effect.promise((signal) => promise(seen, signal))
    case "kept":
      return Effect.uninterruptible(Effect.promise(() => promise(seen)))
  }
}

const workerOf = (seen: Seen) =>
  Worker.make({
    tasks: [
      Double,
      Fail,
      Die,
      Promised,
      Chain,
      Unencodable,
      Careless,
      Thoughtful,
      Once,
      Sleep,
      Itself,
      Untidy,
      Stubborn
    ],
    handlers: Layer.mergeAll(
      Double.toLayer(({ n }) => Effect.succeed(2 * n)),
      Fail.toLayer(({ final }) => Effect.fail(new Broken({ what: final ? "final" : "again" }))),
      Die.toLayer(() => Effect.die(new TypeError("boom\u0000"))),
      Promised.toLayer(({ how }) => promised(seen, how)),
      Chain.toLayer(() =>
        Effect.die(
          new Error("not saved", {
            cause: Object.assign(new Broken({ what: "the disk" }), { cause: { code: 28 } })
          })
        )
      ),
      Unencodable.toLayer(() => Effect.succeed(1n)),
      Careless.toLayer(() => Effect.fail(new Broken({ what: "careless" }))),
      Thoughtful.toLayer(() => Effect.fail(new Broken({ what: "thoughtful" }))),
      Once.toLayer(({ millis }) => Effect.andThen(Effect.sleep(millis), Effect.fail(new Broken({ what: "once" })))),
      Sleep.toLayer(({ millis }) =>
        Effect.gen(function*() {
          const running = yield* Ref.updateAndGet(seen.running, (n) => n + 1)
          yield* Ref.update(seen.most, (most) => Math.max(most, running))
          yield* Effect.sleep(millis)
        }).pipe(
          Effect.onInterrupt(() => Ref.update(seen.interrupted, (n) => n + 1)),
          Effect.ensuring(Ref.update(seen.running, (n) => n - 1))
        )
      ),
      Itself.toLayer(() =>
        Effect.withFiber((fiber) => {
          queueMicrotask(() => fiber.interruptUnsafe())
          return Effect.never
        })
      ),
      Untidy.toLayer(() => Effect.ensuring(Effect.never, Effect.die(new TypeError("not closed")))),
      Stubborn.toLayer(() => Effect.uninterruptible(Deferred.await(seen.release)))
    )
  })

/** Runs the body beside a supervisor over the memory broker, and drains it afterwards. */
const serve = <A, E>(
  body: (seen: Seen) => Effect.Effect<A, E, Broker.Broker | Runner.Runner>,
  options: { readonly concurrency?: number; readonly sync?: boolean } = {}
) =>
  Effect.gen(function*() {
    const seen = yield* makeSeen
    const worker = workerOf(seen)
    const runner = options.sync === true ? InProcessRunner.layerSync(worker) : InProcessRunner.layer(worker)
    return yield* Effect.gen(function*() {
      const supervisor = yield* Effect.forkChild(
        Supervisor.run({ worker, concurrency: options.concurrency ?? 10, drain: "5 seconds" })
      )
      const result = yield* body(seen)
      yield* Deferred.succeed(seen.release, undefined)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
      return result
    }).pipe(Effect.provide(runner))
  }).pipe(Effect.provide(MemoryBroker.layer))

const attemptsOf = (id: string) => Effect.flatMap(Broker.Broker, (broker) => broker.attempts(id))
const stateOf = (id: string) =>
  Effect.flatMap(Broker.Broker, (broker) => Effect.map(broker.read(id), (record) => Option.getOrThrow(record).state))

/** Moves time in small steps until the state is there. */
const untilState = (id: string, state: Broker.State) =>
  Effect.gen(function*() {
    for (let step = 0; step < 1_000; step++) {
      if ((yield* stateOf(id)) === state) return
      yield* TestClock.adjust("100 millis")
    }
    assert.fail(`${id} is ${yield* stateOf(id)}, never became ${state}`)
  })

/** Moves time in small steps until there are so many. */
const untilLength = (list: ReadonlyArray<unknown>, length: number) =>
  Effect.gen(function*() {
    for (let step = 0; step < 1_000; step++) {
      if (list.length >= length) return
      yield* TestClock.adjust("100 millis")
    }
    assert.fail(`there are ${list.length}, never ${length}`)
  })

/** Makes a suspect of the one execution of this task: two supervisors lose it. */
const loseTwice = (task: string) =>
  Effect.gen(function*() {
    const broker = yield* Broker.Broker
    const lanes = [{ queue: "default", task }]
    const result = Envelope.taskError(new TaskError.Lost({ detail: "its host died" }))
    for (const supervisor of ["first", "second"]) {
      yield* broker.register({ supervisor, label: supervisor, lanes, lease: Duration.minutes(5) })
      const [{ fence, id }] = (yield* broker.claim({ supervisor, lanes, limit: 1 })) as [Broker.Claimed]
      const outcome = Outcome.Outcome.Lost({ result, counted: true, final: false })
      yield* broker.settle(supervisor, [{ id, fence, outcome, runnerRef: Option.none() }])
    }
  })

const reasonOf = <A>(exit: Exit.Exit<A, unknown>): TaskError.Reason => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit))
  assert(error instanceof TaskError.TaskError)
  return error.reason
}

describe("Supervisor", () => {
  it.effect("runs what is enqueued and answers the typed result", () =>
    serve(() =>
      Effect.gen(function*() {
        const executions = yield* Task.enqueueAll(Double, [{ n: 1 }, { n: 2 }, { n: 21 }])
        yield* TestClock.adjust("1 second")
        const results = yield* Effect.forEach(executions, (execution) => execution.await)
        assert.deepStrictEqual(results, [2, 4, 42])
      })
    ))

  it.effect("retries by the task's schedule and ends with the declared error", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Fail, { final: false })
        yield* untilState(execution.id, "failed")
        const exit = yield* Effect.exit(execution.await)
        assert.deepStrictEqual(exit, Exit.fail(new Broken({ what: "again" })))
        const attempts = yield* attemptsOf(execution.id)
        assert.deepStrictEqual(attempts.map((a) => [a.attempt, a.outcome]), [[1, "retry"], [2, "retry"], [3, "failed"]])
        const [first, second, third] = attempts.map((attempt) => attempt.endedAt.epochMilliseconds)
        assert.isAtLeast(second! - first!, 10_000)
        assert.isAtLeast(third! - second!, 10_000)
      })
    ))

  it.effect("does not retry an error the policy calls final", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Fail, { final: true })
        yield* untilState(execution.id, "failed")
        assert.lengthOf(yield* attemptsOf(execution.id), 1)
      })
    ))

  it.effect("counts an attempt whose handler interrupts its own fiber", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Itself)
        yield* untilState(execution.id, "failed")
        const attempts = yield* attemptsOf(execution.id)
        assert.deepStrictEqual(attempts.map((a) => [a.attempt, a.outcome]), [[1, "retry"], [2, "failed"]])
        const reason = reasonOf(yield* Effect.exit(execution.await))
        assert(reason._tag === "Defect")
        assert.strictEqual(reason.detail, "the handler interrupted itself")
      })
    ))

  it.effect("calls an attempt timed out or cancelled whose finalizer dies while it is stopped", () =>
    serve(() =>
      Effect.gen(function*() {
        const late = yield* Task.enqueue(Untidy)
        yield* untilState(late.id, "failed")
        assert.strictEqual(reasonOf(yield* Effect.exit(late.await))._tag, "TimedOut")
        const unwanted = yield* Task.enqueue(Untidy)
        yield* untilState(unwanted.id, "running")
        yield* TestClock.adjust("100 millis")
        yield* unwanted.cancel
        yield* untilState(unwanted.id, "cancelled")
        const reason = reasonOf(yield* Effect.exit(unwanted.await))
        assert(reason._tag === "Cancelled" && reason.confirmed)
      })
    ))

  it.effect("tells a defect with what can be stored of it", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Die)
        yield* untilState(execution.id, "failed")
        const reason = reasonOf(yield* Effect.exit(execution.await))
        assert(reason._tag === "Defect")
        assert.strictEqual(reason.name, "TypeError")
        assert.strictEqual(reason.detail, "boom\uFFFD")
      })
    ))

  it.effect("tells of the causes of a death in the record, in the log and to who awaits it", () =>
    Effect.gen(function*() {
      const lines: Array<Readonly<Record<string, unknown>>> = []
      const logger = Logger.map(Logger.formatStructured, ({ annotations, message }) => {
        if (String(message).startsWith("an attempt failed")) lines.push(annotations)
      })
      yield* serve(() =>
        Effect.gen(function*() {
          const execution = yield* Task.enqueue(Chain)
          yield* untilState(execution.id, "failed")
          const words = "not saved (cause: Broken: {\"what\":\"the disk\"} (cause: Object: {\"code\":28}))"
          const [attempt] = yield* attemptsOf(execution.id)
          const { reason } = JSON.parse(Option.getOrThrow(attempt!.result))
          assert.strictEqual(reason.detail, words)
          assert.include(reason.stack, "  [cause]: Broken: {\"what\":\"the disk\"}")
          assert.strictEqual(lines[0]!.error, `Error: ${words}`)
          assert.strictEqual(lines[0]!.stack, reason.stack)
          const exit = yield* Effect.exit(execution.await)
          assert(Exit.isFailure(exit))
          const printed = Cause.pretty(exit.cause)
          assert.include(printed, `Error: ${words}`)
          assert.match(printed, /\[cause\]: Broken: .*\n.*Supervisor\.test\.ts/)
        })
      ).pipe(Effect.provide(Logger.layer([logger])))
    }))

  it.effect("does not try again what cannot be encoded", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Unencodable)
        yield* untilState(execution.id, "failed")
        assert.lengthOf(yield* attemptsOf(execution.id), 1)
        assert.strictEqual(reasonOf(yield* Effect.exit(execution.await))._tag, "Undecodable")
      })
    ))

  it.effect("logs each attempt that failed, and warns when it was the last", () =>
    Effect.gen(function*() {
      const lines: Array<{ readonly level: string; readonly annotations: Readonly<Record<string, unknown>> }> = []
      const logger = Logger.map(Logger.formatStructured, (line) => {
        if (String(line.message).startsWith("an attempt failed")) lines.push(line)
      })
      yield* serve(() =>
        Effect.gen(function*() {
          const fail = yield* Task.enqueue(Fail, { final: false })
          yield* untilState(fail.id, "failed")
          const told = (attempt: number, outcome: string) => ({
            task: "Fail",
            execution: fail.id,
            attempt,
            outcome,
            error: "{\"_tag\":\"Broken\",\"what\":\"again\"}"
          })
          assert.deepStrictEqual(lines.map(({ level }) => level), ["INFO", "INFO", "WARN"])
          assert.deepStrictEqual(
            lines.map(({ annotations }) => annotations),
            [told(1, "Retry"), told(2, "Retry"), told(3, "Failed")]
          )
          const die = yield* Task.enqueue(Die)
          yield* untilState(die.id, "failed")
          const { error: died, stack } = lines.at(-1)!.annotations
          assert.strictEqual(died, "TypeError: boom\uFFFD")
          assert.include(stack, "Supervisor.test.ts")
          const slow = yield* Task.enqueue(Sleep, { millis: 120_000 })
          yield* untilState(slow.id, "failed")
          assert.include(lines.at(-1)!.annotations, {
            error: "the attempt ran longer than 60000 ms",
            outcome: "TimedOut"
          })
        })
      ).pipe(Effect.provide(Logger.layer([logger])))
    }))

  it.effect("interrupts an attempt that runs over its timeout", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Sleep, { millis: 120_000 })
        yield* untilState(execution.id, "failed")
        assert.deepStrictEqual(
          reasonOf(yield* Effect.exit(execution.await)),
          new TaskError.TimedOut({ timeoutMillis: 60_000 })
        )
        assert.strictEqual(yield* Ref.get(seen.interrupted), 1)
      })
    ))

  it.effect("records an attempt that will not stop as timed out and unconfirmed, and keeps its slot", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Stubborn)
        yield* untilState(execution.id, "failed")
        const [attempt] = yield* attemptsOf(execution.id)
        assert.strictEqual(attempt!.outcome, "timed_out")
        const blocked = yield* Task.enqueue(Double, { n: 1 })
        yield* TestClock.adjust("10 seconds")
        assert.strictEqual(yield* stateOf(blocked.id), "queued")
        yield* Deferred.succeed(seen.release, undefined)
        yield* untilState(blocked.id, "succeeded")
      }), { concurrency: 1 }))

  it.effect("takes a handler for stopped when it has ended, and sees nothing of a promise that hears no signal", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Promised, { how: "deaf" })
        // The second attempt has begun, and what the first one waited for goes on beside it.
        yield* untilLength(seen.promises, 2)
        assert.deepStrictEqual(seen.promises, ["pending", "pending"])
        const [first] = yield* attemptsOf(execution.id)
        assert.deepStrictEqual([first!.outcome, first!.confirmed], ["retry", true])
        yield* untilState(execution.id, "failed")
      })
    ))

  it.effect("has a promise end before the retry that takes the signal", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Promised, { how: "listening" })
        yield* untilLength(seen.promises, 2)
        assert.deepStrictEqual(seen.promises, ["aborted", "pending"])
        assert.isTrue((yield* attemptsOf(execution.id))[0]!.confirmed)
        yield* untilState(execution.id, "failed")
      })
    ))

  it.effect("waits for a promise that must not be interrupted, and says that it did not stop if it takes too long", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Promised, { how: "kept" })
        yield* untilLength(seen.promises, 1)
        yield* TestClock.adjust("5 seconds")
        // Its time is up, and no other has begun.
        assert.lengthOf(yield* attemptsOf(execution.id), 0)
        yield* untilLength(seen.promises, 2)
        const [first] = yield* attemptsOf(execution.id)
        assert.deepStrictEqual([first!.outcome, first!.confirmed], ["retry", false])
      })
    ))

  it.effect("cancels what is running and what is queued", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const running = yield* Task.enqueue(Sleep, { millis: 50_000 })
        yield* untilState(running.id, "running")
        const queued = yield* Task.enqueue(Double, { n: 1 }, { delay: "1 hour" })
        assert.strictEqual(yield* queued.cancel, "Cancelled")
        assert.strictEqual(yield* running.cancel, "Requested")
        yield* untilState(running.id, "cancelled")
        assert.strictEqual(yield* running.cancel, "TooLate")
        assert.deepStrictEqual(
          reasonOf(yield* Effect.exit(running.await)),
          new TaskError.Cancelled({ confirmed: true })
        )
        assert.strictEqual(yield* Ref.get(seen.interrupted), 1)
      })
    ))

  it.effect("never runs more attempts than its concurrency", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const executions = yield* Task.enqueueAll(Sleep, Array.from({ length: 20 }, () => ({ millis: 1_000 })))
        yield* Effect.forEach(executions, (execution) => untilState(execution.id, "succeeded"), { discard: true })
        assert.strictEqual(yield* Ref.get(seen.most), 3)
      }), { concurrency: 3 }))

  it.effect("runs one at a time with the sync runner, whatever the concurrency", () =>
    serve((seen) =>
      Effect.gen(function*() {
        const executions = yield* Task.enqueueAll(Sleep, Array.from({ length: 5 }, () => ({ millis: 500 })))
        yield* Effect.forEach(executions, (execution) => untilState(execution.id, "succeeded"), { discard: true })
        assert.strictEqual(yield* Ref.get(seen.most), 1)
      }), { concurrency: 10, sync: true }))

  it.effect("runs delayed executions when they are due", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Double, { n: 4 }, { delay: "90 seconds" })
        yield* TestClock.adjust("89 seconds")
        assert.strictEqual(yield* stateOf(execution.id), "queued")
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* execution.await, 8)
      })
    ))

  it.effect("makes one trace of enqueue, attempt and handler, ended by the settlement", () => {
    const spans: Array<Tracer.NativeSpan> = []
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const named = (name: string) => spans.find((span) => span.name === name)!
    return serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Double, { n: 1 })
        yield* untilState(execution.id, "succeeded")
        const [enqueue, attempt, handler] = [named("Task.enqueue"), named("Supervisor.attempt"), named("Double.run")]
        assert.strictEqual(attempt.traceId, enqueue.traceId)
        assert.strictEqual(handler.traceId, enqueue.traceId)
        assert.strictEqual(Option.getOrThrow(attempt.parent).spanId, enqueue.spanId)
        assert.strictEqual(Option.getOrThrow(handler.parent).spanId, attempt.spanId)
        assert.strictEqual(attempt.attributes.get("effect_ray.outcome"), "Succeeded")
        assert.strictEqual(attempt.status._tag, "Ended")
      })
    ).pipe(Effect.withTracer(tracer))
  })

  it.effect("drains on interruption: what fits finishes, the rest goes back uncounted", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const supervisor = yield* Effect.forkChild(Effect.provide(
        Supervisor.run({ worker, concurrency: 10, drain: "5 seconds" }),
        InProcessRunner.layer(worker)
      ))
      const short = yield* Task.enqueue(Sleep, { millis: 3_000 })
      const long = yield* Task.enqueue(Sleep, { millis: 50_000 })
      yield* untilState(short.id, "running")
      yield* untilState(long.id, "running")
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("1 second")
      const late = yield* Task.enqueue(Double, { n: 1 })
      yield* TestClock.adjust("20 seconds")
      yield* Fiber.join(stopping)
      assert.strictEqual(yield* stateOf(short.id), "succeeded")
      assert.strictEqual(yield* stateOf(long.id), "queued")
      assert.strictEqual(yield* stateOf(late.id), "queued")
      const attempts = yield* attemptsOf(long.id)
      assert.deepStrictEqual(attempts.map((attempt) => attempt.outcome), ["released"])
      const record = Option.getOrThrow(yield* Effect.flatMap(Broker.Broker, (broker) => broker.read(long.id)))
      assert.strictEqual(record.attempts, 0)
      assert.strictEqual(record.losses, 0)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("goes on by itself when the broker was away", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const away = yield* Ref.make(false)
      const unavailable = new BrokerError.BrokerError({
        reason: new BrokerError.Unavailable({ operation: "test", detail: "cut" })
      })
      const flaky = <A>(effect: Effect.Effect<A, BrokerError.BrokerError>) =>
        Effect.flatMap(Ref.get(away), (away) => away ? Effect.fail(unavailable) : effect)
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) => flaky(real.claim(options)),
        settle: (id, settlements) => flaky(real.settle(id, settlements)),
        tick: (options) => flaky(real.tick(options))
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const running = yield* Task.enqueue(Sleep, { millis: 2_000 })
      yield* untilState(running.id, "running")
      yield* Ref.set(away, true)
      const later = yield* Task.enqueue(Double, { n: 3 })
      yield* TestClock.adjust("5 seconds")
      assert.strictEqual(yield* stateOf(running.id), "running")
      yield* Ref.set(away, false)
      yield* untilState(running.id, "succeeded")
      yield* untilState(later.id, "succeeded")
      assert.lengthOf(yield* attemptsOf(running.id), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("pauses before it asks again for a place that no attempt got", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const asked = yield* Ref.make(0)
      const nowhere = Runner.Runner.of({
        name: "nowhere",
        supports: () => true,
        isolatesSuspects: () => true,
        pool: () => endless,
        listen: () => Effect.void,
        run: () =>
          Effect.as(
            Ref.update(asked, (n) => n + 1),
            Outcome.Ended.Lost({ reason: new TaskError.Lost({ detail: "no host starts" }), collateral: true })
          ),
        acknowledge: () => Effect.void
      })
      const supervisor = yield* Supervisor.run({ worker: workerOf(seen), concurrency: 10 }).pipe(
        Effect.provideService(Runner.Runner, nowhere),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Double, { n: 1 })
      for (let step = 0; step < 100; step++) yield* TestClock.adjust("100 millis")
      const times = yield* Ref.get(asked)
      assert.isTrue(times >= 5 && times <= 11, `asked ${times} times in ten seconds`)
      const record = Option.getOrThrow(yield* Effect.flatMap(Broker.Broker, (broker) => broker.read(execution.id)))
      assert.strictEqual(record.losses, 0)
      assert.strictEqual(record.attempts, 0)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("lets others pass a suspect that waits to run alone, then runs it alone", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const suspect = yield* Task.enqueue(Sleep, { millis: 5_000 })
      yield* loseTwice("Sleep")
      const long = yield* Task.enqueue(Sleep, { millis: 20_000 }, { priority: 9 })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* untilState(long.id, "running")
      yield* untilState(suspect.id, "running")
      const other = yield* Task.enqueue(Double, { n: 1 })
      yield* untilState(other.id, "succeeded")
      assert.strictEqual(yield* stateOf(long.id), "running")
      yield* untilState(suspect.id, "succeeded")
      assert.strictEqual(yield* stateOf(long.id), "succeeded")
      assert.strictEqual(yield* Ref.get(seen.most), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("settles an attempt whose retry policy throws", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Careless)
        yield* untilState(execution.id, "failed")
        assert.deepStrictEqual(yield* Effect.exit(execution.await), Exit.fail(new Broken({ what: "careless" })))
      })
    ))

  it.effect("settles an attempt whose retry policy does not answer", () =>
    serve(() =>
      Effect.gen(function*() {
        const execution = yield* Task.enqueue(Thoughtful)
        yield* untilState(execution.id, "failed")
        const exit = yield* Effect.exit(execution.await)
        assert.deepStrictEqual(Exit.findErrorOption(exit), Option.some(new Broken({ what: "thoughtful" })))
      })
    ))

  it.effect("retries although the past attempts could not be read for a while", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const real = yield* Broker.Broker
      const away = new BrokerError.BrokerError({
        reason: new BrokerError.Unavailable({ operation: "attempts", detail: "no answer within 15s" })
      })
      const broker = Broker.Broker.of({
        ...real,
        attempts: () => Effect.andThen(Effect.sleep("15 seconds"), Effect.fail(away))
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Fail, { final: false })
      yield* untilState(execution.id, "failed")
      assert.deepStrictEqual(
        (yield* attemptsOf(execution.id)).map(({ outcome }) => outcome),
        ["retry", "retry", "failed"]
      )
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("never runs an at-most-once execution again: not for a retry, nor after a shutdown", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const supervisor = yield* Supervisor.run({ worker, concurrency: 1, drain: "1 second" }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const failing = yield* Task.enqueue(Once, { millis: 10 })
      yield* untilState(failing.id, "failed")
      const running = yield* Task.enqueue(Once, { millis: 60_000 })
      yield* untilState(running.id, "running")
      // Never begun: there is one slot.
      const waiting = yield* Task.enqueue(Once, { millis: 60_000 })
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
      assert.lengthOf(yield* attemptsOf(failing.id), 1)
      assert.strictEqual(yield* stateOf(running.id), "lost")
      assert.strictEqual(reasonOf(yield* Effect.exit(running.await))._tag, "Lost")
      assert.strictEqual(yield* stateOf(waiting.id), "queued")
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("lets others start when a suspect will not stop", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const suspect = yield* Task.enqueue(Stubborn)
      yield* loseTwice("Stubborn")
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, drain: "1 second" }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* untilState(suspect.id, "running")
      const other = yield* Task.enqueue(Double, { n: 4 })
      yield* untilState(suspect.id, "failed")
      yield* untilState(other.id, "succeeded")
      const [last] = (yield* attemptsOf(suspect.id)).slice(-1)
      assert.deepStrictEqual([last?.outcome, last?.confirmed], ["timed_out", false])
      yield* Deferred.succeed(seen.release, undefined)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses options that make no sense", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const refused = (options: Partial<Supervisor.Options>) =>
        Effect.map(
          Effect.exit(Supervisor.run({ worker, concurrency: 1, ...options })),
          (exit) => Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "accepted"
        )
      assert.include(yield* refused({ concurrency: 0 }), "Supervisor.run: concurrency is 0")
      assert.include(yield* refused({ concurrency: Number.NaN }), "concurrency is NaN")
      assert.include(yield* refused({ lease: 0 }), "lease is 0: expected a duration from 1s")
      assert.include(yield* refused({ lease: Infinity }), "lease is Infinity")
      assert.include(yield* refused({ drain: "soon" as never }), "drain is \"soon\"")
    }).pipe(Effect.provide(InProcessRunner.layer(Worker.make({ tasks: [] }))), Effect.provide(MemoryBroker.layer)))

  it.effect("finds what a claim took whose answer was lost", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const cut = yield* Ref.make(1)
      const lost = new BrokerError.BrokerError({
        reason: new BrokerError.Unavailable({ operation: "claim", detail: "the connection was cut" })
      })
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) =>
          Effect.flatMap(real.claim(options), (claimed) =>
            Effect.flatMap(
              Ref.getAndUpdate(cut, (n) => claimed.length > 0 ? n - 1 : n),
              (n) => claimed.length > 0 && n > 0 ? Effect.fail(lost) : Effect.succeed(claimed)
            ))
      })
      const executions = yield* Task.enqueueAll(Double, [{ n: 1 }, { n: 2 }])
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* Effect.forEach(executions, (execution) => untilState(execution.id, "succeeded"), { discard: true })
      for (const execution of executions) assert.lengthOf(yield* attemptsOf(execution.id), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("finds what it owns when a settlement of the same fence was refused", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      let refused = 0
      // As after a crash of the store that undid the claim: refused, then claimed again under the same fence.
      const broker = Broker.Broker.of({
        ...real,
        settle: (supervisor, settlements) =>
          refused++ === 0
            ? Effect.succeed(settlements.map(() => "LeaseLost" as const))
            : real.settle(supervisor, settlements)
      })
      const execution = yield* Task.enqueue(Double, { n: 1 })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* untilState(execution.id, "succeeded")
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("asks again what it owns when a settlement is refused while it asks", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const real = yield* Broker.Broker
      const cut = new BrokerError.BrokerError({
        reason: new BrokerError.Unavailable({ operation: "claim", detail: "the connection was cut" })
      })
      const asked = yield* Latch.make(false)
      const refused = yield* Latch.make(false)
      let claims = 0
      let settlements = 0
      const broker = Broker.Broker.of({
        ...real,
        // The answer to the second claim that took something is lost.
        claim: (options) =>
          Effect.flatMap(real.claim(options), (claimed) =>
            claimed.length > 0 && ++claims === 2 ? Effect.fail(cut) : Effect.succeed(claimed)),
        owned: (supervisor) =>
          Effect.tap(real.owned(supervisor), Effect.andThen(asked.open, refused.await)),
        settle: (supervisor, batch) =>
          settlements++ === 0
            ? Effect.as(Effect.andThen(asked.await, refused.open), batch.map(() => "LeaseLost" as const))
            : real.settle(supervisor, batch)
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const first = yield* Task.enqueue(Double, { n: 1 })
      yield* untilState(first.id, "running")
      const second = yield* Task.enqueue(Double, { n: 2 })
      yield* untilState(second.id, "succeeded")
      yield* untilState(first.id, "succeeded")
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses to begin with a limit that no row can carry", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      for (const reference of [Limits.MaxResultBytes, Limits.MaxPayloadBytes]) {
        const exit = yield* Effect.exit(
          Supervisor.run({ worker, concurrency: 1 }).pipe(
            Effect.provide(InProcessRunner.layer(worker)),
            Effect.provideService(reference, Limits.maxCarriedBytes + 1)
          )
        )
        assert.match(
          Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "",
          /Supervisor\.run: Limits\.Max\w+Bytes is 7340033/
        )
      }
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("ends as failed what is stored in a format that it does not know, or over its limit of payloads", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const broker = yield* Broker.Broker
      const past = yield* Task.enqueue(Double, { n: 1 })
      const record = Option.getOrThrow(yield* broker.read(past.id))
      yield* past.cancel
      const row = {
        id: "",
        task: record.task,
        queue: record.queue,
        priority: 5,
        due: { _tag: "Now" } as const,
        maxAttempts: 3,
        timeout: Duration.minutes(1),
        startBy: Option.none(),
        idempotencyKey: Option.none(),
        atMostOnce: false,
        tags: {},
        traceparent: Option.none()
      }
      const future = { ...row, id: "00000000-0000-7000-8000-000000000001", payload: "{\"n\":1}", format: 999 }
      const large = {
        ...row,
        id: "00000000-0000-7000-8000-000000000002",
        payload: `{"n":1,"x":"${"x".repeat(3_000_000)}"}`,
        format: 1
      }
      yield* broker.enqueue([future, large])
      const supervisor = yield* Supervisor.run({ worker, concurrency: 2 }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      for (
        const [id, words] of [[future.id, /format 999.*format 1: a newer version/], [
          large.id,
          /3000014 bytes and/
        ]] as const
      ) {
        yield* untilState(id, "failed")
        const error = yield* Effect.flip((yield* Task.execution(Double, id)).await)
        assert.match(String(error), words)
        assert.strictEqual(error._tag === "TaskError" && error.reason._tag, "Undecodable")
      }
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("takes bad data for what it is: it says so, and goes on with everything else", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const bad = (operation: string) =>
        Effect.fail(
          new BrokerError.BrokerError({ reason: new BrokerError.BadData({ operation, detail: "a row of stone" }) })
        )
      let [claims, settlements, asked] = [0, 0, 0]
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) => claims++ < 2 ? bad("claim") : real.claim(options),
        owned: (id) => asked++ === 0 ? bad("owned") : real.owned(id),
        settle: (id, batch) => settlements++ === 0 ? bad("settle") : real.settle(id, batch)
      })
      const executions = [...yield* Task.enqueueAll(Double, [{ n: 1 }, { n: 2 }])]
      const supervisor = yield* Supervisor.run({ worker, concurrency: 1 }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.provideService(Broker.Broker, broker),
        Effect.forkChild
      )
      // What is not recorded is not run again: it stays with its owner until that one leaves.
      yield* TestClock.adjust("30 seconds")
      executions.push(yield* Task.enqueue(Double, { n: 3 }))
      yield* TestClock.adjust("30 seconds")
      const states = yield* Effect.forEach(executions, ({ id }) => Effect.map(real.read(id), Option.getOrThrow))
      assert.deepStrictEqual(states.map(({ state }) => state), ["running", "running", "succeeded"])
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("settles no more at once than a statement should carry, and a larger result alone", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const real = yield* Broker.Broker
      const mebibyte = 1024 * 1024
      const batches: Array<ReadonlyArray<number>> = []
      const broker = Broker.Broker.of({
        ...real,
        settle: (supervisor, settlements) => {
          batches.push(settlements.map(({ outcome }) => "result" in outcome ? outcome.result.length : 0))
          return real.settle(supervisor, settlements)
        }
      })
      const large = Runner.Runner.of({
        name: "large",
        supports: () => true,
        isolatesSuspects: () => true,
        pool: () => endless,
        listen: () => Effect.void,
        run: ({ payload }) =>
          Effect.succeed(Outcome.Ended.Succeeded({ value: "1".repeat(JSON.parse(payload).millis) })),
        acknowledge: () => Effect.void
      })
      const sizes = [...Array.from({ length: 11 }, () => 3 * mebibyte), 20 * mebibyte]
      const executions = yield* Task.enqueueAll(Sleep, sizes.map((millis) => ({ millis })))
      const supervisor = yield* Supervisor.run({ worker: workerOf(seen), concurrency: 20 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provideService(Runner.Runner, large),
        Effect.forkChild
      )
      // The last one is more than a row can carry, which only its settlement finds out.
      const largest = executions.at(-1)!
      yield* Effect.forEach(executions.slice(0, -1), ({ id }) => untilState(id, "succeeded"), { discard: true })
      yield* untilState(largest.id, "failed")
      const error = yield* Effect.flip(largest.await)
      assert.strictEqual(error._tag === "TaskError" && error.reason._tag, "ResultTooLarge")
      for (const batch of batches) {
        assert.isTrue(batch.length === 1 || batch.reduce((sum, size) => sum + size, 0) <= 16 * mebibyte)
      }
      assert.strictEqual(batches.flat().length, sizes.length)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("says which executions are quarantined and why, and stops when there are too many", () => {
    const lines: Array<{ readonly message: string; readonly annotations: { readonly [name: string]: unknown } }> = []
    const logger = Logger.map(
      Logger.formatStructured,
      ({ annotations, level, message }) =>
        level === "WARN" && void lines.push({ message: String(message), annotations })
    )
    return Effect.gen(function*() {
      const reason = new TaskError.Lost({ detail: "host died: exit 137" })
      const deadly = Runner.Runner.of({
        name: "deadly",
        supports: () => true,
        isolatesSuspects: () => true,
        pool: () => endless,
        listen: () => Effect.void,
        run: (attempt) =>
          Effect.sync(() => {
            attempt.onStart({ host: "host", node: "node", pid: 1 })
            return Outcome.Ended.Lost({ reason, collateral: false })
          }),
        acknowledge: () => Effect.void
      })
      const supervisor = yield* Supervisor.run({ worker: workerOf(yield* makeSeen), concurrency: 20 }).pipe(
        Effect.provideService(Runner.Runner, deadly),
        Effect.forkChild
      )
      const first = yield* Task.enqueue(Sleep, { millis: 0 })
      yield* untilState(first.id, "lost")
      const quarantined = lines.filter(({ message }) => message.startsWith("an execution is quarantined"))
      assert.lengthOf(quarantined, 1)
      const { execution, losses, reason: words, task } = quarantined[0]!.annotations
      assert.deepStrictEqual([task, execution, losses], ["Sleep", first.id, 3])
      assert.include(String(words), "exit 137")
      const others = yield* Task.enqueueAll(Sleep, Array.from({ length: 150 }, () => ({ millis: 0 })))
      yield* Effect.forEach(others, ({ id }) => untilState(id, "lost"), { discard: true })
      const told = lines.filter(({ message }) => message.includes("quarantined") || message.startsWith("more than 60"))
      // The minute may end meanwhile.
      assert.isAtMost(told.length, 122)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer), Effect.provide(Logger.layer([logger])))
  })

  it.effect("counts the payloads that a settlement moves to history", () =>
    Effect.gen(function*() {
      const real = yield* Broker.Broker
      const batches: Array<number> = []
      const padding = " ".repeat(1.75 * 1024 * 1024)
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) =>
          Effect.map(
            real.claim(options),
            (claimed) => claimed.map((one) => ({ ...one, payload: `${one.payload}${padding}` }))
          ),
        settle: (supervisor, settlements) => {
          batches.push(settlements.length)
          return real.settle(supervisor, settlements)
        }
      })
      const executions = yield* Task.enqueueAll(Sleep, Array.from({ length: 20 }, () => ({ millis: 0 })))
      const worker = workerOf(yield* makeSeen)
      const supervisor = yield* Supervisor.run({ worker, concurrency: 20 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* Effect.forEach(executions, ({ id }) => untilState(id, "succeeded"), { discard: true })
      assert.strictEqual(batches.reduce((sum, size) => sum + size, 0), 20)
      assert.isAtMost(Math.max(...batches), 9)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("goes on with an attempt whose claim a crash of the store undid, and starts no other", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      let undone: Array<Broker.Claimed> = []
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) =>
          undone.length > 0
            ? Effect.sync(() => undone.splice(0))
            : Effect.tap(real.claim(options), (claimed) => Effect.sync(() => undone = [...claimed]))
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Sleep, { millis: 2_000 })
      yield* untilState(execution.id, "succeeded")
      assert.isEmpty(undone)
      assert.strictEqual(yield* Ref.get(seen.most), 1)
      assert.lengthOf(yield* attemptsOf(execution.id), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("lets its runner forget the ends that a lapsed lease kept from being recorded", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const real = yield* Broker.Broker
      const runner = yield* Effect.provide(Runner.Runner, InProcessRunner.layer(worker))
      const reachable = yield* Latch.make(true)
      const forgotten: Array<string> = []
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, lease: "10 seconds" }).pipe(
        Effect.provideService(
          Broker.Broker,
          Broker.Broker.of({
            ...real,
            tick: (options) => reachable.whenOpen(real.tick(options)),
            settle: (supervisor, settlements) => reachable.whenOpen(real.settle(supervisor, settlements))
          })
        ),
        Effect.provideService(
          Runner.Runner,
          Runner.Runner.of({
            ...runner,
            acknowledge: (attempts) =>
              Effect.sync(() => forgotten.push(...attempts.map(({ execution, fence }) => `${execution} ${fence}`)))
          })
        ),
        Effect.forkChild
      )
      // One that is being recorded, and one that waits for that.
      const first = yield* Task.enqueue(Sleep, { millis: 1_000 })
      const second = yield* Task.enqueue(Sleep, { millis: 2_000 })
      yield* untilState(first.id, "running")
      yield* untilState(second.id, "running")
      yield* reachable.close
      yield* real.register({ supervisor: "other", label: "other", lanes: [], lease: Duration.minutes(5) })
      yield* TestClock.adjust("15 seconds")
      yield* tickAndKeepUp(real, { supervisor: "other", lanes: [], lease: Duration.minutes(5) })
      yield* untilState(first.id, "queued")
      yield* untilState(second.id, "queued")
      yield* reachable.open
      yield* untilState(first.id, "succeeded")
      yield* untilState(second.id, "succeeded")
      assert.includeMembers(forgotten, [first, second].map(({ id }) => `${id} 1`))
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("abandons what it ran when its lease lapsed, and begins again under another id", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const thawed = yield* Latch.make(true)
      const broker = Broker.Broker.of({
        ...real,
        tick: (options) => thawed.whenOpen(real.tick(options))
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10, lease: "10 seconds" }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Sleep, { millis: 40_000 })
      yield* untilState(execution.id, "running")
      // Another supervisor reaps while this one says nothing.
      yield* thawed.close
      yield* real.register({ supervisor: "other", label: "other", lanes: [], lease: Duration.minutes(5) })
      yield* TestClock.adjust("11 seconds")
      yield* tickAndKeepUp(real, { supervisor: "other", lanes: [], lease: Duration.minutes(5) })
      yield* untilState(execution.id, "queued")
      yield* thawed.open
      yield* untilState(execution.id, "succeeded")
      const attempts = yield* attemptsOf(execution.id)
      assert.deepStrictEqual(attempts.map((attempt) => attempt.outcome), ["lost", "succeeded"])
      assert.isBelow(attempts[0]!.fence, attempts[1]!.fence)
      assert.strictEqual(yield* Ref.get(seen.interrupted), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

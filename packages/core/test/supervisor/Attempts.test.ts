/** What becomes of attempts by how they end. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Logger, Option, Tracer } from "effect"
import { TestClock } from "effect/testing"
import { Broker, BrokerError, InProcessRunner, MemoryBroker, Supervisor, Task } from "../../src/index.ts"
import {
  Broken,
  Double,
  Fail,
  Die,
  Chain,
  Unencodable,
  Sleep,
  Careless,
  Thoughtful,
  Once,
  Itself,
  makeSeen,
  workerOf,
  serve,
  attemptsOf,
  stateOf,
  untilState,
  reasonOf
} from "./fixtures.ts"

describe("Supervisor: attempts", () => {
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
          assert.match(printed, /\[cause\]: Broken: .*\n.*fixtures\.ts/)
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
          assert.include(stack, "supervisor/fixtures.ts")
          const slow = yield* Task.enqueue(Sleep, { millis: 120_000 })
          yield* untilState(slow.id, "failed")
          assert.include(lines.at(-1)!.annotations, {
            error: "the attempt ran longer than 60000 ms",
            outcome: "TimedOut"
          })
        })
      ).pipe(Effect.provide(Logger.layer([logger])))
    }))

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
})

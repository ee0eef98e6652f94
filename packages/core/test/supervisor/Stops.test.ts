/** Attempts that are stopped: by their timeout, by a cancel, or that will not stop. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Ref } from "effect"
import { TestClock } from "effect/testing"
import { Task, TaskError } from "../../src/index.ts"
import {
  Double,
  Sleep,
  Promised,
  Untidy,
  Stubborn,
  serve,
  attemptsOf,
  stateOf,
  untilState,
  untilLength,
  reasonOf
} from "./fixtures.ts"

describe("Supervisor: stops", () => {
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
})

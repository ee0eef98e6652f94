import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Option, Schedule } from "effect"
import { Retry } from "../src/index.ts"

const failures = (count: number): ReadonlyArray<Retry.Failure> =>
  Array.from({ length: count }, (_, index) => ({ endedAtMillis: 1_000 * index, error: Option.some(`no. ${index}`) }))

const ask = (options: {
  readonly policy?: Retry.Policy<unknown>
  readonly attempt: number
  readonly maxAttempts?: number
  readonly failures?: ReadonlyArray<Retry.Failure>
}) =>
  Retry.nextDelay({
    policy: options.policy,
    executionId: "0190-a",
    attempt: options.attempt,
    maxAttempts: options.maxAttempts ?? 10,
    failures: options.failures ?? failures(options.attempt)
  })

const millis = Option.map(Duration.toMillis)

describe("Retry.nextDelay", () => {
  it.effect("steps the task's schedule with the recorded attempts, so a restart does not begin the backoff again", () =>
    Effect.gen(function*() {
      const policy = Schedule.exponential("100 millis")
      const delays = yield* Effect.forEach([1, 2, 3, 4], (attempt) => ask({ policy, attempt }))
      assert.deepStrictEqual(delays.map(millis), [100, 200, 400, 800].map(Option.some))
    }))

  it.effect("ends with the schedule, with the attempts, or with an error that is final", () =>
    Effect.gen(function*() {
      const twice = Schedule.spaced("1 second").pipe(Schedule.upTo({ times: 2 }))
      assert.isTrue(Option.isSome(yield* ask({ policy: twice, attempt: 2 })))
      assert.isTrue(Option.isNone(yield* ask({ policy: twice, attempt: 3 })))
      assert.isTrue(Option.isNone(yield* ask({ attempt: 3, maxAttempts: 3 })))
      const final: Retry.Policy<unknown> = { while: (error) => error !== "no. 0" }
      assert.isTrue(Option.isNone(yield* ask({ policy: final, attempt: 1 })))
      assert.isTrue(Option.isSome(yield* ask({ policy: final, attempt: 2 })))
    }))

  it.effect("starts near one second by default, and gives the same delay for the same history", () =>
    Effect.gen(function*() {
      const first = yield* ask({ attempt: 1 })
      const again = yield* ask({ attempt: 1 })
      assert.deepStrictEqual(first, again)
      const delay = Option.getOrThrow(millis(first))
      assert.isTrue(delay >= 500 && delay <= 1_500, `${delay} ms`)
    }))

  it.effect("shows a schedule the time of each failure, not the time of the replay", () =>
    Effect.gen(function*() {
      const policy = Schedule.recurs(9).pipe(
        Schedule.addDelay(() => Effect.map(Clock.currentTimeMillis, Duration.millis))
      )
      const delays = yield* Effect.forEach([1, 2, 3], (attempt) => ask({ policy, attempt }))
      assert.deepStrictEqual(delays.map(millis), [0, 1_000, 2_000].map(Option.some))
    }))

  it.effect("caps the default backoff at five minutes", () =>
    Effect.gen(function*() {
      const delay = Option.getOrThrow(millis(yield* ask({ attempt: 40, maxAttempts: 100 })))
      assert.isTrue(delay <= 1.5 * 5 * 60_000, `${delay} ms`)
    }))

  it.effect("falls back to the default policy when a stored error cannot be decoded", () =>
    Effect.gen(function*() {
      const never: Retry.Policy<unknown> = { schedule: Schedule.recurs(0) }
      const undecodable = [{ endedAtMillis: 0, error: Option.none() }]
      assert.isTrue(Option.isNone(yield* ask({ policy: never, attempt: 1 })))
      assert.isTrue(Option.isSome(yield* ask({ policy: never, attempt: 1, failures: undecodable })))
    }))
})

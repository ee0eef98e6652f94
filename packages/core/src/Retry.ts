/**
 * When a failed attempt is tried again.
 *
 * The delay comes from the task's `Schedule`, stepped with the recorded attempts, so
 * a restart of the worker does not begin the backoff again. Random is seeded by the
 * execution's id: the same history gives the same delay.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { storedMillis } from "./BrokerInput.ts"
import * as Limits from "./Limits.ts"
import type { TaskError } from "./TaskError.ts"

/**
 * A Schedule, which ends by itself, or options: `attempts` in all (default `EFFECT_RAY_MAX_ATTEMPTS`), the `schedule` of the
 * delays (default exponential from 1 second with jitter, capped at 5 minutes), and `while`, false for errors that are final.
 *
 * @category models
 */
export type Policy<E> =
  | Schedule.Schedule<unknown, E | TaskError>
  | {
    readonly schedule?: Schedule.Schedule<unknown, E | TaskError>
    readonly attempts?: number
    readonly while?: (error: E | TaskError) => boolean
  }

/**
 * One counted attempt that failed: when, and of what. `None`: the stored error can no longer be decoded.
 *
 * @category models
 */
export interface Failure {
  readonly endedAtMillis: number
  readonly error: Option.Option<unknown>
}

/**
 * The default schedule of delays, from the first delay given.
 *
 * @category constructors
 */
export const defaultSchedule = (backoff: Duration.Duration): Schedule.Schedule<unknown, unknown> =>
  Schedule.min([Schedule.exponential(backoff), Schedule.spaced(Limits.maxDefaultBackoff)]).pipe(Schedule.jittered)

/**
 * The delay before the next attempt; none when this failure was the last.
 *
 * @category deciding
 */
export const nextDelay = Effect.fnUntraced(function*(options: {
  readonly policy: Policy<unknown> | undefined
  readonly executionId: string
  readonly attempt: number
  readonly maxAttempts: number
  /** All counted failures, oldest first, this one last. */
  readonly failures: ReadonlyArray<Failure>
}): Effect.fn.Return<Option.Option<Duration.Duration>> {
  if (options.attempt >= options.maxAttempts) return Option.none()
  const last = options.failures.at(-1)
  const policy = normalise(options.policy)
  if (last !== undefined && Option.isSome(last.error) && policy.while?.(last.error.value as never) === false) {
    return Option.none()
  }
  const fallback = defaultSchedule(yield* Limits.RetryBackoff)
  // A Schedule that reads its input cannot be stepped with an error nobody can decode: the default policy takes over.
  const decodable = options.failures.every((failure) => Option.isSome(failure.error))
  const schedule = decodable && policy.schedule !== undefined ? policy.schedule : fallback
  return yield* replay(schedule, options.failures).pipe(Random.withSeed(options.executionId))
})

const normalise = (policy: Policy<unknown> | undefined): Exclude<Policy<unknown>, Schedule.Schedule<any, any>> => {
  if (policy === undefined) return {}
  return Schedule.isSchedule(policy) ? { schedule: policy } : policy
}

/** The clock as it stood at the failure, for schedules that look at it themselves. */
const pinned = (clock: Clock.Clock, millis: number): Clock.Clock => {
  const nanos = BigInt(Math.round(millis)) * 1_000_000n
  return {
    currentTimeMillisUnsafe: () => millis,
    currentTimeMillis: Effect.succeed(millis),
    currentTimeNanosUnsafe: () => nanos,
    currentTimeNanos: Effect.succeed(nanos),
    monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
    monotonicTimeNanos: clock.monotonicTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  }
}

const replay = Effect.fnUntraced(function*(
  schedule: Schedule.Schedule<unknown, unknown>,
  failures: ReadonlyArray<Failure>
) {
  const step = yield* Schedule.toStep(schedule)
  let delay = Option.none<Duration.Duration>()
  const clock = yield* Clock.Clock
  for (const failure of failures) {
    const exit = yield* Effect.exit(step(failure.endedAtMillis, Option.getOrUndefined(failure.error))).pipe(
      Effect.provideService(Clock.Clock, pinned(clock, failure.endedAtMillis))
    )
    // A schedule that is done, or that fails, asks for no further attempt.
    if (Exit.isFailure(exit)) return Option.none<Duration.Duration>()
    // A schedule is the app's code: what it asks for may be below zero, or no number.
    delay = Option.some(Duration.millis(storedMillis(exit.value[1])))
  }
  return delay
})

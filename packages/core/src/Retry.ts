/**
 * Whether and when a failed attempt is retried.
 *
 * The delay comes from the task's `Schedule`, stepped through the recorded attempts, so
 * a restart of the worker does not restart the backoff. Random is seeded with the
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
 * Either a Schedule, which ends by itself, or options.
 *
 * @category models
 */
export type Policy<E> =
  | Schedule.Schedule<unknown, E | TaskError>
  | {
    /** The delays between attempts. Default: exponential from 1 second with jitter, capped at 5 minutes. */
    readonly schedule?: Schedule.Schedule<unknown, E | TaskError>
    /** How many attempts in all, including the first. Default: `EFFECT_RAY_MAX_ATTEMPTS`. */
    readonly attempts?: number
    /** Returns false for an error that ends the execution. Default: always true. */
    readonly while?: (error: E | TaskError) => boolean
  }

/**
 * One counted attempt that failed.
 *
 * @category models
 */
export interface Failure {
  /** When it ended, in milliseconds since 1970, by the broker's clock. */
  readonly endedAtMillis: number
  /** The error; `None` if the stored error can no longer be decoded. */
  readonly error: Option.Option<unknown>
}

/**
 * The default schedule, which starts with the given delay.
 *
 * @category constructors
 */
export const defaultSchedule = (backoff: Duration.Duration): Schedule.Schedule<unknown, unknown> =>
  Schedule.min([Schedule.exponential(backoff), Schedule.spaced(Limits.maxDefaultBackoff)]).pipe(Schedule.jittered)

/**
 * The delay before the next attempt; `None` if no attempt is left.
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
  // A Schedule that reads its input cannot be stepped with an error that cannot be decoded, so the default policy is
  // used.
  const decodable = options.failures.every((failure) => Option.isSome(failure.error))
  const schedule = decodable && policy.schedule !== undefined ? policy.schedule : fallback
  return yield* replay(schedule, options.failures).pipe(Random.withSeed(options.executionId))
})

const normalise = (policy: Policy<unknown> | undefined): Exclude<Policy<unknown>, Schedule.Schedule<any, any>> => {
  if (policy === undefined) return {}
  return Schedule.isSchedule(policy) ? { schedule: policy } : policy
}

/** A clock that stands still at the failure, for schedules that read the clock themselves. */
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
    // A schedule that is done, or that fails, ends the retries.
    if (Exit.isFailure(exit)) return Option.none<Duration.Duration>()
    // A schedule is the app's code: its delay may be negative, or not a number.
    delay = Option.some(Duration.millis(storedMillis(exit.value[1])))
  }
  return delay
})

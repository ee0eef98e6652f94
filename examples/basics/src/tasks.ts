/**
 * The definitions. Every app that enqueues imports them; the handlers are in `handlers.ts`, only where the work runs.
 */
import { Schedule, Schema } from "effect"
import { Task } from "effect-ray"

export class Add extends Task.make("Add", {
  payload: { a: Schema.Finite, b: Schema.Finite },
  success: Schema.Finite
}) {}

export class Multiply extends Task.make("Multiply", {
  payload: { a: Schema.Finite, b: Schema.Finite },
  success: Schema.Finite
}) {}

/** Sleeps for `seconds`, so that there is something to cancel or to time out. */
export class Slow extends Task.make("Slow", {
  payload: { seconds: Schema.Finite },
  success: Schema.Struct({ slept: Schema.Finite }),
  timeout: "1 minute"
}) {}

/** What `Failing` fails with. A caller that awaits the execution gets an instance of this class. */
export class Refused extends Schema.TaggedError<Refused>()("Refused", {
  why: Schema.String,
  attempt: Schema.Int
}) {}

/** Fails in its first `failures` attempts, then succeeds and returns the number of that attempt. */
export class Failing extends Task.make("Failing", {
  payload: { why: Schema.String, failures: Schema.Int },
  success: Schema.Int,
  error: Refused,
  retry: { attempts: 3, schedule: Schedule.spaced("50 millis") }
}) {}

/** Returns its payload: any JSON. */
export class Echo extends Task.make("Echo", {
  payload: Schema.Struct({ value: Schema.Json }),
  success: Schema.Json
}) {}

/** Counts the primes below `limit`. It keeps one CPU busy, hence the whole CPU and one attempt at a time. */
export class CpuIntensive extends Task.make("CpuIntensive", {
  payload: { limit: Schema.Int },
  success: Schema.Struct({ primes: Schema.Int }),
  queue: "cpu",
  timeout: "2 minutes",
  placement: { mode: "pool", cpus: 1, concurrency: 1 }
}) {}

/** What the soak enqueues: small tasks of every kind that end in each of the usual ways. */
import { Task } from "effect-ray"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"

const placement = { cpus: 0.5, maxHosts: 1 }

export class Unlucky extends Schema.TaggedError<Unlucky>()("Unlucky", { n: Schema.Int }) {}

/** Logs twenty lines and returns a text of a few kilobytes. */
export class Chatter extends Task.make("Chatter", {
  payload: { n: Schema.Int },
  success: Schema.String,
  placement
}) {}

/** Fails twice, then succeeds. */
export class Flaky extends Task.make("Flaky", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  error: Unlucky,
  retry: { attempts: 3, schedule: Schedule.spaced("100 millis") },
  placement
}) {}

/** Ends when it is cancelled. */
export class Endless extends Task.make("Endless", { payload: { n: Schema.Int }, placement }) {}

/** A Python function that prints and returns its argument. */
export class Sum extends Task.python("Sum", {
  module: "soak",
  function: "add",
  payload: { numbers: Schema.Array(Schema.Int) },
  success: Schema.Int,
  idempotencyKey: ({ numbers }) => numbers.join(),
  placement
}) {}

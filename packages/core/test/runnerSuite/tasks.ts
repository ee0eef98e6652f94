/** The tasks of the suite, each with a way of its own to end. */
import * as Schema from "effect/Schema"
import * as Task from "../../src/Task.ts"

/** Room for a few attempts in each of a few processes, where the runner has any. */
const placement = { cpus: 0.5, maxHosts: 3 }

export class Refused extends Schema.TaggedError<Refused>()("Refused", { at: Schema.Date }) {}

/** Refuses a name that is empty. */
export class Greet extends Task.make("Greet", {
  payload: { name: Schema.String, at: Schema.Date },
  success: Schema.Struct({ text: Schema.String, at: Schema.Date, next: Schema.OptionFromNullOr(Schema.Int) }),
  error: Refused,
  placement
}) {}

export class Echo extends Task.make("Echo", { payload: Schema.Json, success: Schema.Json, placement }) {}

/** Dies of an error with a cause. */
export class Crash extends Task.make("Crash", { payload: { message: Schema.String }, placement }) {}

/** Fails with what it does not declare. */
export class Undeclared extends Task.make("Undeclared", { placement }) {}

/** Has somebody else interrupt its fiber. */
export class Itself extends Task.make("Itself", { placement }) {}

/** Returns a promise, as JavaScript may. */
export class Promising extends Task.make("Promising", { placement }) {}

export const thrown = [
  "undefined",
  "null",
  "symbol",
  "function",
  "bare",
  "circle",
  "getters",
  "proxy",
  "long",
  "unstorable"
] as const

/** Throws one of these. */
export class Throw extends Task.make("Throw", { payload: { what: Schema.Literals(thrown) }, placement }) {}

export const notJson = [
  "bigint",
  "circle",
  "undefined",
  "hidden",
  "function",
  "nan",
  "infinity",
  "map",
  "deep"
] as const

const as = Schema.Literals(["result", "error"])

export class Loose extends Schema.TaggedError<Loose>()("Loose", { value: Schema.Any }) {}

/** Ends with one of these, where its Schema takes anything. */
export class Anything extends Task.make("Anything", {
  payload: { what: Schema.Literals(notJson), as },
  success: Schema.Any,
  error: Loose,
  placement
}) {}

export class TooMuch extends Schema.TaggedError<TooMuch>()("TooMuch", { text: Schema.String }) {}

/** Ends with so many characters. */
export class Long extends Task.make("Long", {
  payload: { length: Schema.Int, as },
  success: Schema.String,
  error: TooMuch,
  placement
}) {}

/** Never ends by itself. Writes `started`; `interrupted` and `closed` when it is stopped as an Effect is. */
export class Wait extends Task.make("Wait", { payload: { file: Schema.String }, placement }) {}

/** As `Wait`, and dies of its finalizer when it is stopped. */
export class Untidy extends Task.make("Untidy", { payload: { file: Schema.String }, placement }) {}

/** Writes `started`, and `ended` when the file `release` exists; it does not let itself be stopped before. */
export class Finish extends Task.make("Finish", {
  payload: { file: Schema.String, release: Schema.String },
  placement
}) {}

/** As `Finish`, but can be stopped. Returns `name`. */
export class Gate extends Task.make("Gate", {
  payload: { file: Schema.String, release: Schema.String, name: Schema.String },
  success: Schema.String,
  placement
}) {}

/** What a handler sees of its attempt and of where it runs. */
export class About extends Task.make("About", {
  success: Schema.Struct({
    executionId: Schema.String,
    task: Schema.String,
    queue: Schema.String,
    attempt: Schema.Int,
    /** Of a line that it logs, with one of its own. */
    annotations: Schema.Record(Schema.String, Schema.Json),
    traceId: Schema.NullOr(Schema.String),
    /** Of a service that its layer is given. */
    instance: Schema.String,
    /** Of a reference that stands beside it in the worker's layer. */
    beside: Schema.String,
    /** The process and the thread. */
    thread: Schema.String
  }),
  placement
}) {}

/** Writes `closed` when its scope is. */
export class Tidy extends Task.make("Tidy", { payload: { file: Schema.String }, placement }) {}

/** Runs in other processes than the others, where the runner has any. */
export class Elsewhere extends Task.make("Elsewhere", { placement: { cpus: 0.25, maxHosts: 1 } }) {}

export class Snake extends Task.python("Snake", { module: "snake", function: "snake", placement }) {}

/** Is not the worker's. */
export class Unserved extends Task.make("Unserved", { placement }) {}

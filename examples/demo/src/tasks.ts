/**
 * What the demo enqueues. The definitions know nothing of where the work runs.
 */
import { Schedule, Schema } from "effect"
import { Task } from "effect-ray"

/** What a file tells about itself. */
export const Summary = Schema.Struct({
  lines: Schema.Int,
  words: Schema.Int,
  uniqueWords: Schema.Int,
  /** In characters. */
  longestLine: Schema.Int,
  readingMinutes: Schema.Int,
  /** The most frequent words and how often they occur, at most `maxTerms`. */
  terms: Schema.Record(Schema.String, Schema.Int)
})

/** The file's bytes are not UTF-8. `offset` is where the first of them that cannot be read stands. */
export class NotText extends Schema.TaggedError<NotText>()("NotText", {
  path: Schema.String,
  offset: Schema.Int
}) {}

/** One for each file. The bytes travel in the payload, because a host on another machine cannot read this one's files. */
export class Summarise extends Task.make("Summarise", {
  payload: { path: Schema.String, bytes: Schema.Uint8Array },
  success: Summary,
  error: NotText,
  // A file that is not text now will not be text later.
  retry: { attempts: 3, while: (error) => error._tag !== "NotText" }
}) {}

/** The mail server (there is none) did not take the message. */
export class Busy extends Schema.TaggedError<Busy>()("Busy", { attempt: Schema.Int }) {}

/** Tells somebody that the report is under way. Its first attempt always fails, and is retried. */
export class Notify extends Task.make("Notify", {
  payload: { report: Schema.Int },
  success: Schema.Struct({ deliveredAtAttempt: Schema.Int }),
  error: Busy,
  retry: { attempts: 3, schedule: Schedule.spaced("200 millis") }
}) {}

/** Waits for changes in the files that never come, until somebody cancels it. */
export class Watch extends Task.make("Watch", {
  payload: { report: Schema.Int },
  priority: 9,
  timeout: "10 minutes"
}) {}

/** Compares all files by the words they use, in Python with NumPy: `python/similarity.py`. */
export class Compare extends Task.python("Compare", {
  module: "similarity",
  function: "most_similar",
  payload: {
    documents: Schema.Array(Schema.Struct({
      path: Schema.String,
      terms: Schema.Record(Schema.String, Schema.Int)
    })),
    top: Schema.Int
  },
  success: Schema.Struct({
    numpy: Schema.String,
    documents: Schema.Int,
    terms: Schema.Int,
    /** The most similar pairs, best first. `cosine` is 1 for the same words in the same proportions, 0 for none in common. */
    pairs: Schema.Array(Schema.Struct({ left: Schema.String, right: Schema.String, cosine: Schema.Finite }))
  }),
  timeout: "2 minutes"
}) {}

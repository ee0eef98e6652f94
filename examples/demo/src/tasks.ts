/**
 * What the demo enqueues. The definitions do not say where the work runs.
 */
import { Schedule, Schema } from "effect"
import { Task } from "effect-ray"

/** The facts about one file. */
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

/** The file's bytes are not UTF-8. `offset` is the position of the first invalid byte. */
export class NotText extends Schema.TaggedError<NotText>()("NotText", {
  path: Schema.String,
  offset: Schema.Int
}) {}

/**
 * One for each file. The payload contains the bytes, because a host on another machine cannot read this one's files.
 */
export class Summarise extends Task.make("Summarise", {
  payload: { path: Schema.String, bytes: Schema.Uint8Array },
  success: Summary,
  error: NotText,
  // A file that is not text will not become text later.
  retry: { attempts: 3, while: (error) => error._tag !== "NotText" }
}) {}

/** The mail server (there is none) refused the message. */
export class Busy extends Schema.TaggedError<Busy>()("Busy", { attempt: Schema.Int }) {}

/** Notifies somebody that the report is under way. Its first attempt always fails, and is retried. */
export class Notify extends Task.make("Notify", {
  payload: { report: Schema.Int },
  success: Schema.Struct({ deliveredAtAttempt: Schema.Int }),
  error: Busy,
  retry: { attempts: 3, schedule: Schedule.spaced("200 millis") }
}) {}

/** Waits for changes in the files that never come, until it is cancelled. */
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
    /**
     * The most similar pairs, best first. `cosine` is 1 for the same words in the same proportions, 0 for none in
     * common.
     */
    pairs: Schema.Array(Schema.Struct({ left: Schema.String, right: Schema.String, cosine: Schema.Finite }))
  }),
  timeout: "2 minutes"
}) {}

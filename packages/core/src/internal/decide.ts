/** From how an attempt ended to its outcome: `Outcome.propose`, with the retry policy's answer when it needs one. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Broker from "../Broker.ts"
import * as Envelope from "../Envelope.ts"
import * as Handler from "../Handler.ts"
import { type Ended, type Outcome, propose } from "../Outcome.ts"
import * as Limits from "../Limits.ts"
import * as Retry from "../Retry.ts"
import * as TaskError from "../TaskError.ts"
import { sanitise } from "./text.ts"
import { type Entry, now, type Shift } from "./shift.ts"

/** How long a task's retry policy may think about one failure. */
export const maxPolicyTime = Duration.seconds(10)

/** Succeeded attempts are decided at once; failed ones need an effect, because the policy reads the recorded attempts. */
export const decide = (shift: Shift, entry: Entry, ended: Ended): Outcome | Effect.Effect<Outcome> => {
  const conclude = (next: Option.Option<Duration.Duration>) =>
    propose({
      ended,
      stopped: entry.stopped,
      losses: entry.claimed.losses,
      atMostOnce: entry.claimed.atMostOnce,
      // A handler that has begun is announced, or its end is no confirmed interruption.
      started: entry.place !== undefined || ended._tag !== "Interrupted" || !ended.confirmed,
      timeoutMillis: entry.claimed.timeoutMillis,
      next
    })
  const failed = failureOf(entry, ended)
  if (failed === undefined) return conclude(Option.none())
  const endedAtMillis = endedAt(shift, entry)
  return Effect.flatMap(recorded(shift, entry), (past) =>
    Effect.gen(function*() {
      const failures = yield* Effect.forEach(past, (attempt) => asFailure(entry, attempt))
      const next = yield* nextDelay(entry, [...failures, { endedAtMillis, error: yield* failed }])
      const outcome = conclude(next)
      yield* tell(outcome, errorOf(entry, ended))
      return outcome
    }).pipe(
      // The policy is the app's code. If it breaks, or does not answer, the row must not wait for it for ever.
      Effect.timeout(maxPolicyTime),
      Effect.catchCause((cause) =>
        Effect.as(
          Effect.annotateLogs(
            Effect.logError("the retry policy failed, so this attempt was the last"),
            { error: TaskError.describe(Handler.defect(cause)) }
          ),
          conclude(Option.none())
        )
      )
    )).pipe(
      Effect.annotateLogs({ task: entry.claimed.task, execution: entry.claimed.id, attempt: entry.claimed.attempt })
    )
}

/** One line for each attempt that failed: a warning when no other follows. */
const tell = (outcome: Outcome, error: Readonly<Record<string, string>>): Effect.Effect<void> => {
  const log = outcome._tag === "Retry"
    ? Effect.logInfo("an attempt failed and is tried again")
    : Effect.logWarning("an attempt failed and was the last")
  return Effect.annotateLogs(log, { outcome: outcome._tag, ...error })
}

/** What the attempt ended with, bounded: the declared error as JSON, or a sentence and where it was thrown. */
const errorOf = ({ claimed }: Entry, ended: Ended): Readonly<Record<string, string>> => {
  if (ended._tag === "Failed") return { error: sanitise(ended.error, Limits.maxDetailLength) }
  const reason = ended._tag === "Died"
    ? ended.reason
    : new TaskError.TimedOut({ timeoutMillis: claimed.timeoutMillis })
  const error = TaskError.describe(reason)
  const stack = reason._tag === "PythonError" ? reason.traceback : reason._tag === "Defect" ? reason.stack : ""
  return stack === "" ? { error } : { error, stack }
}

/** The error the retry policy sees; undefined when the end is not a failure that counts. */
const failureOf = (entry: Entry, ended: Ended): Effect.Effect<Option.Option<unknown>> | undefined => {
  const { claimed, task } = entry
  const wrap = (reason: TaskError.Reason) =>
    Effect.succeed(Option.some(new TaskError.TaskError({ task: claimed.task, executionId: claimed.id, reason })))
  if (ended._tag === "Failed") {
    const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.toCodecJson(task.errorSchema)))
    return Effect.option(decode(ended.error))
  }
  if (ended._tag === "Died") return wrap(ended.reason)
  if (ended._tag === "Interrupted" && entry.stopped === "timeout") {
    return wrap(new TaskError.TimedOut({ timeoutMillis: claimed.timeoutMillis }))
  }
  return undefined
}

const nextDelay = ({ claimed, task }: Entry, failures: ReadonlyArray<Retry.Failure>) =>
  Retry.nextDelay({
    policy: task.options.retry,
    executionId: claimed.id,
    attempt: claimed.attempt,
    maxAttempts: claimed.maxAttempts,
    failures
  })

/** By the broker's clock, as the past failures are: this process's may differ. */
const endedAt = (shift: Shift, entry: Entry): number =>
  entry.claimed.claimedAtMillis + now(shift) - entry.claimedAtMillis

/** Past failures that counted. If they cannot be read now, the backoff starts again rather than the retry being lost. */
const recorded = (shift: Shift, { claimed }: Entry): Effect.Effect<ReadonlyArray<Broker.AttemptRecord>> =>
  claimed.attempt === 1 ? Effect.succeed([]) : shift.broker.attempts(claimed.id).pipe(
    Effect.map((attempts) => attempts.filter((attempt) => attempt.outcome === "retry")),
    Effect.catch((error) =>
      Effect.as(Effect.logWarning("cannot read past attempts; the backoff starts again", error), [])
    )
  )

const asFailure = (entry: Entry, attempt: Broker.AttemptRecord): Effect.Effect<Retry.Failure> =>
  Effect.map(
    Option.match(attempt.result, {
      onNone: () => Effect.succeedNone,
      onSome: (envelope) =>
        Effect.map(
          Envelope.decode({
            task: entry.claimed.task,
            executionId: entry.claimed.id,
            successSchema: Schema.Unknown,
            errorSchema: entry.task.errorSchema,
            envelope
          }),
          Exit.findErrorOption
        )
    }),
    (error) => ({ endedAtMillis: attempt.endedAt.epochMilliseconds, error })
  )

/** Decides the outcome of an attempt's end: `Outcome.propose`, with the retry policy's delay where one is needed. */
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
import type { Entry } from "./entry.ts"
import { now, type Shift } from "./shift.ts"
import { sanitise } from "./text.ts"

/** How long a task's retry policy may take for one failure. */
export const maxPolicyTime = Duration.seconds(10)

/** Whether an end is a failure that counts. The retry policy then decides, using the recorded attempts. */
export const isFailure = ({ stopped }: Entry, ended: Ended): boolean =>
  ended._tag === "Failed" || ended._tag === "Died" || (ended._tag === "Interrupted" && stopped === "timeout")

/** The outcome of an end that is not a failure. */
export const outcomeOf = (entry: Entry, ended: Ended): Outcome => concluded(entry, ended, Option.none())

/** The outcome of a failure. */
export const outcomeOfFailure = (shift: Shift, entry: Entry, ended: Ended): Effect.Effect<Outcome> => {
  const endedAtMillis = endedAt(shift, entry)
  return Effect.flatMap(recorded(shift, entry), (past) =>
    Effect.gen(function*() {
      const failures = yield* Effect.forEach(past, (attempt) => asFailure(entry, attempt))
      const next = yield* nextDelay(entry, [...failures, { endedAtMillis, error: yield* errorSeen(entry, ended) }])
      const outcome = concluded(entry, ended, next)
      yield* tell(outcome, errorOf(entry, ended))
      return outcome
    }).pipe(
      // The policy is the app's code. If it throws or does not finish, the row must not wait for it.
      Effect.timeout(maxPolicyTime),
      Effect.catchCause((cause) =>
        Effect.as(
          Effect.annotateLogs(
            Effect.logError("the retry policy failed, so this attempt was the last"),
            { error: TaskError.describe(Handler.defect(cause)) }
          ),
          concluded(entry, ended, Option.none())
        )
      )
    )).pipe(
      Effect.annotateLogs({ task: entry.claimed.task, execution: entry.claimed.id, attempt: entry.claimed.attempt })
    )
}

const concluded = (entry: Entry, ended: Ended, next: Option.Option<Duration.Duration>): Outcome =>
  propose({
    ended,
    stopped: entry.stopped,
    losses: entry.claimed.losses,
    atMostOnce: entry.claimed.atMostOnce,
    // A handler that has begun was reported, or its end is not a confirmed interruption.
    started: entry.place !== undefined || ended._tag !== "Interrupted" || !ended.confirmed,
    timeoutMillis: entry.claimed.timeoutMillis,
    next
  })

/** Logs a failed attempt: as a warning if no attempt follows. */
const tell = (outcome: Outcome, error: Readonly<Record<string, string>>): Effect.Effect<void> => {
  const log = outcome._tag === "Retry"
    ? Effect.logInfo("an attempt failed and will be retried")
    : Effect.logWarning("an attempt failed and was the last")
  return Effect.annotateLogs(log, { outcome: outcome._tag, ...error })
}

/** The error of the attempt, bounded: the declared error as JSON, or a sentence and where it was thrown. */
const errorOf = ({ claimed }: Entry, ended: Ended): Readonly<Record<string, string>> => {
  if (ended._tag === "Failed") return { error: sanitise(ended.error, Limits.maxDetailLength) }
  const reason = reasonOf(claimed, ended)
  const error = TaskError.describe(reason)
  const stack = reason._tag === "PythonError" ? reason.traceback : reason._tag === "Defect" ? reason.stack : ""
  return stack === "" ? { error } : { error, stack }
}

/** The error that the retry policy gets; `None` if it cannot be decoded. */
const errorSeen = ({ claimed, task }: Entry, ended: Ended): Effect.Effect<Option.Option<unknown>> => {
  if (ended._tag === "Failed") {
    const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(Schema.toCodecJson(task.errorSchema)))
    return Effect.option(decode(ended.error))
  }
  const reason = reasonOf(claimed, ended)
  return Effect.succeed(
    Option.some(new TaskError.TaskError({ task: claimed.task, executionId: claimed.id, reason }))
  )
}

/** Why an attempt failed without a declared error. */
const reasonOf = ({ timeoutMillis }: Broker.Claimed, ended: Ended): TaskError.Reason =>
  ended._tag === "Died" ? ended.reason : new TaskError.TimedOut({ timeoutMillis })

const nextDelay = ({ claimed, task }: Entry, failures: ReadonlyArray<Retry.Failure>) =>
  Retry.nextDelay({
    policy: task.options.retry,
    executionId: claimed.id,
    attempt: claimed.attempt,
    maxAttempts: claimed.maxAttempts,
    failures
  })

/** By the broker's clock, like the past failures: this process's clock may differ. */
const endedAt = (shift: Shift, entry: Entry): number =>
  entry.claimed.claimedAtMillis + now(shift) - entry.claimedAtMillis

/** Past failures that counted. If they cannot be read now, the backoff restarts; the retry is not lost. */
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

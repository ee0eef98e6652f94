/** Logs to standard error, separate from what a command prints as its result. */
import * as Cause from "effect/Cause"
import * as Console from "effect/Console"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Stdio from "effect/Stdio"
import * as unknownVariables from "./unknownVariables.ts"

export type Format = "auto" | "json" | "pretty"

const json = Logger.layer([Logger.withConsoleError(Logger.formatJson), Logger.tracerLogger])

const pretty = (colors: boolean) =>
  Layer.mergeAll(
    Logger.layer([Logger.consolePrettyTty({ colors }), Logger.tracerLogger]),
    Layer.succeed(Logger.LogToStderr, true)
  )

/** Formatted for people on a terminal and JSON elsewhere, unless the user chose one. */
export const layer = (format: Format): Layer.Layer<never, never, Stdio.Stdio> =>
  Layer.unwrap(Effect.gen(function*() {
    const stdio = yield* Stdio.Stdio
    const terminal = yield* stdio.stderrIsTerminal
    // A convention of many programs: https://no-color.org.
    const noColor = yield* Effect.orElseSucceed(Config.option(Config.String("NO_COLOR")), Option.none)
    return format === "json" || (format === "auto" && !terminal) ? json : pretty(terminal && Option.isNone(noColor))
  }))

/** Tells the runtime that this failure has been reported. */
const markReported = (error: unknown): void => {
  if (typeof error === "object" && error !== null) Object.assign(error, { [Runtime.errorReported]: false })
}

/** Logs a failure: an expected one by its message alone, a defect with its stack. */
const logFailure = (cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (Cause.hasInterruptsOnly(cause)) return Effect.void
  const error = Cause.squash(cause)
  markReported(error)
  return error instanceof Error && !Cause.hasDies(cause) ? Effect.logFatal(error.message) : Effect.logFatal(cause)
}

/** Runs a command with its log. It first warns about unknown variables, and at the end logs the command's failure. */
export const logged = (format: Format) => <A, E, R>(command: Effect.Effect<A, E, R>) =>
  Effect.andThen(unknownVariables.tell, command).pipe(Effect.tapCause(logFailure), Effect.provide(layer(format)))

/** Prints what is wrong with the way the command was called, before there is a log. */
export const printed = <A, E extends Error, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.tapError(
    effect,
    (error) => Effect.andThen(Console.error(error.message), Effect.sync(() => markReported(error)))
  )

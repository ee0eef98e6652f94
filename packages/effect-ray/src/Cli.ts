/**
 * The command `effect-ray`: `worker`, `dev` and `migrate`.
 *
 * The process exits with 0 on success (also for a worker that drained after SIGTERM), with 1 after a failure, and with
 * 2 if it was called incorrectly or a setting is wrong.
 */
import * as Cause from "effect/Cause"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Runtime from "effect/Runtime"
import { dev } from "./internal/commands/dev.ts"
import { migrate } from "./internal/commands/migrate.ts"
import { worker } from "./internal/commands/worker.ts"

/**
 * The command with its subcommands.
 *
 * @category commands
 */
export const command = Command.make("effect-ray").pipe(
  Command.withDescription(
    "Durable tasks for Effect on Postgres and Ray. Completions: effect-ray --completions bash|zsh|fish"
  ),
  Command.withExamples([
    { command: "effect-ray dev src/worker.ts", description: "Develop: a Postgres, a Ray and a worker of your own" },
    { command: "effect-ray migrate", description: "Bring the schema in DATABASE_URL up to date" },
    { command: "effect-ray worker src/worker.ts", description: "Serve the tasks of a worker module" }
  ]),
  Command.withSubcommands([worker, dev, migrate])
)

/** After a mistyped flag, prints the line that says so, without the whole help above it. */
const presenter = CliOutput.layerPresenter({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? Effect.gen(function*() {
        const formatter = yield* CliOutput.Formatter
        yield* Console.error(formatter.formatErrors(event.errors).trim())
        yield* Console.error(`See: ${event.commandPath.join(" ")} --help`)
      })
      : CliOutput.defaultPresenter.present(event)
})

/**
 * Runs the command with these arguments.
 *
 * @category running
 */
export const runWith = (args: ReadonlyArray<string>, options: { readonly version: string }) =>
  Effect.provide(Command.runWith(command, options)(args), presenter)

/**
 * Runs the command with the process's arguments.
 *
 * @category running
 */
export const run = (options: { readonly version: string }) => Effect.provide(Command.run(command, options), presenter)

/**
 * The process's exit code for the way `run` ended; `interrupted` is the code for an interruption.
 *
 * @category running
 */
export const exitCode = (exit: Exit.Exit<unknown, unknown>, interrupted: number): number => {
  if (Exit.isSuccess(exit)) return 0
  if (Cause.hasInterruptsOnly(exit.cause)) return interrupted
  const error = Cause.squash(exit.cause)
  if (!CliError.isCliError(error)) return Runtime.getErrorExitCode(error)
  return error._tag === "ShowHelp" && error.errors.length === 0 ? 0 : 2
}

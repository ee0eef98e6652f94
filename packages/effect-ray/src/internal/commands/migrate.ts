/** `effect-ray migrate` */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Settings from "../../Settings.ts"
import * as database from "../database.ts"
import * as flags from "../flags.ts"
import * as logging from "../logging.ts"

const keys = ["databaseUrl", "prepare", "schema", "logFormat"] as const

const config = {
  dryRun: Flag.Boolean("dry-run").pipe(
    Flag.withDescription("Print the SQL that is pending and change nothing"),
    Flag.withDefault(false)
  ),
  settings: flags.of(keys)
}

const validate = (settings: Partial<Settings.Settings>) =>
  Effect.succeed(
    settings.databaseUrl !== undefined && Option.isNone(settings.databaseUrl)
      ? [Settings.missing("databaseUrl", "`effect-ray dev` starts a Postgres of its own.")]
      : []
  )

const run = Effect.fnUntraced(function*(dryRun: boolean, settings: Pick<Settings.Settings, (typeof keys)[number]>) {
  const url = Option.getOrThrow(settings.databaseUrl)
  return yield* Effect.provide(
    dryRun ? Effect.flatMap(database.pendingSql(settings), Console.log) : database.migrate(settings),
    database.layer(url, { prepare: settings.prepare })
  )
})

export const migrate = Command.make("migrate", config, (input) =>
  Effect.flatMap(
    logging.printed(Settings.load({ keys, flags: flags.given(input.settings), validate })),
    (settings) => logging.logged(settings.logFormat)(run(input.dryRun, settings))
  )).pipe(
    Command.withDescription(
      "Brings effect-ray's schema in DATABASE_URL up to date; safe to repeat and to run concurrently"
    ),
    Command.withExamples([
      { command: "effect-ray migrate", description: "Apply what is pending" },
      { command: "effect-ray migrate --dry-run", description: "Print the pending SQL" }
    ])
  )

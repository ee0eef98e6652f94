/** `effect-ray dev MODULE` */
import type { GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import type { Runner } from "@effect-ray/core/Runner"
import * as EmbeddedPostgres from "@effect-ray/postgres/EmbeddedPostgres"
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Settings from "../../Settings.ts"
import * as WorkerModule from "../../WorkerModule.ts"
import * as database from "../database.ts"
import * as flags from "../flags.ts"
import * as localRay from "../localRay.ts"
import * as logging from "../logging.ts"
import * as rayToken from "../rayToken.ts"
import * as runners from "../runners.ts"
import * as serving from "../serve.ts"
import * as stateFolder from "../stateFolder.ts"

const keys = serving.keys

/** Nobody at a terminal wants to wait for long. */
const defaults = { drain: "5 seconds" }

const config = {
  module: Argument.String("MODULE").pipe(
    Argument.withDescription("The file whose default export is a Worker; TypeScript as it is")
  ),
  inProcess: Flag.Boolean("in-process").pipe(
    Flag.withDescription("Run attempts in this process, even if there is a Ray"),
    Flag.withDefault(false)
  ),
  settings: flags.of(keys, defaults)
}

type Input = Command.Command.Config.Infer<typeof config>
type DevSettings = Pick<Settings.Settings, (typeof keys)[number]>

/** A part of the development system: the address that is printed, and how to reach it. */
interface Postgres {
  readonly url: Redacted.Redacted<string>
  readonly line: string
}

/** The project's Postgres belongs to another `dev`. */
export class AlreadyRunning
  extends Schema.TaggedError<AlreadyRunning>("effect-ray/AlreadyRunning")("AlreadyRunning", {})
{
  override get message() {
    return "another `effect-ray dev` runs in this folder; stop it, or set DATABASE_URL to the address that it printed"
  }
}

const postgres = Effect.fnUntraced(function*(settings: DevSettings, folder: string) {
  if (Option.isSome(settings.databaseUrl)) {
    const url = settings.databaseUrl.value
    return { url, line: `postgres://${database.where(url)} (DATABASE_URL)` } satisfies Postgres
  }
  const path = yield* Path.Path
  const server = yield* EmbeddedPostgres.make({
    dataFolder: path.join(folder, "postgres"),
    resolveFrom: [import.meta.url]
  }).pipe(Effect.mapError((error) => error.detail.includes("postmaster.pid") ? new AlreadyRunning() : error))
  // The password is of this machine's own throw-away server, and the application needs it.
  return { url: server.url, line: `${Redacted.value(server.url)} (data in ${server.dataFolder})` } satisfies Postgres
})

interface Ray {
  readonly runner: Layer.Layer<
    Runner,
    Layer.Error<ReturnType<typeof runners.local>> | runners.HandlersFailed,
    GatewayRegistry
  >
  readonly line: string
}

const ray = Effect.fnUntraced(function*(
  module: WorkerModule.WorkerModule,
  settings: DevSettings,
  input: Input,
  folder: string
) {
  const none = (why: string): Ray => ({
    runner: runners.inProcess(module, "in-process"),
    line: `none, attempts run in this process: ${why}`
  })
  if (input.inProcess) return none("--in-process")
  if (Option.isSome(settings.rayAddress)) {
    const address = settings.rayAddress.value
    const token = yield* Effect.orDie(rayToken.find(settings, flags.given(input.settings)))
    return { runner: runners.ray(module, settings, { address, token }), line: `${address} (RAY_ADDRESS)` } satisfies Ray
  }
  const local = yield* Effect.result(localRay.make(folder))
  if (local._tag === "Failure") return none(local.failure.message)
  const { address, found } = local.success
  return {
    runner: Layer.provide(runners.local(module, settings), Layer.succeed(LocalRay.LocalRay, local.success)),
    line: `${address} (${found ? "found" : "started"})`
  } satisfies Ray
})

const run = Effect.fnUntraced(function*(input: Input, settings: DevSettings) {
  yield* serving.stoppable
  const module = yield* WorkerModule.load(input.module)
  const folder = yield* stateFolder.make
  yield* Effect.logInfo("starting a Postgres and a Ray, unless they are there")
  const [store, cluster] = yield* Effect.all([postgres(settings, folder), ray(module, settings, input, folder)], {
    concurrency: 2
  })
  const client = database.layer(store.url)
  yield* Effect.provide(database.migrate(settings), client)
  const queues = [...new Set(module.worker.tasks.map((task) => task.options.queue))]
  yield* Console.log([
    "",
    `  Postgres  ${store.line}`,
    `  Ray       ${cluster.line}`,
    `  Worker    ${module.path}, queues ${queues.join(", ")}`,
    ""
  ].join("\n"))
  return yield* Effect.provide(
    serving.serve({ module, queues: [], settings }),
    Layer.provideMerge(
      Layer.provideMerge(cluster.runner, Layer.provide(database.layerStore(settings), client)),
      Settings.limits(settings)
    )
  )
})

const validate = (input: Input) => (settings: Partial<Settings.Settings>) =>
  Effect.match(rayToken.find(settings, flags.given(input.settings)), {
    onFailure: (problem) => [problem],
    onSuccess: () => []
  })

export const dev = Command.make("dev", config, (input) =>
  Effect.flatMap(
    logging.printed(Settings.load({ keys, flags: flags.given(input.settings), defaults, validate: validate(input) })),
    (settings) => logging.logged(settings.logFormat)(Effect.scoped(run(input, settings)))
  )).pipe(
    Command.withDescription(
      "Develops a worker with nothing installed but this package: a Postgres and a Ray of the project's own, kept in .effect-ray"
    ),
    Command.withExamples([
      { command: "effect-ray dev src/worker.ts", description: "Start all, print the addresses, serve" },
      {
        command: "DATABASE_URL=postgres://localhost/app effect-ray dev src/worker.ts",
        description: "With a Postgres that is there"
      }
    ])
  )

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
import * as FileSystem from "effect/FileSystem"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Path from "effect/Path"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Settings from "../../Settings.ts"
import * as WorkerModule from "../../WorkerModule.ts"
import * as database from "../database.ts"
import * as flags from "../flags.ts"
import * as hostLogs from "../hostLogs.ts"
import * as localRay from "../localRay.ts"
import * as logging from "../logging.ts"
import * as rayToken from "../rayToken.ts"
import * as runners from "../runners.ts"
import * as serving from "../serve.ts"
import * as stateFolder from "../stateFolder.ts"

const keys = serving.keys

/** Short, because somebody at a terminal is waiting. */
const defaults = { drain: "5 seconds", startTimeout: "0 seconds" }

const config = {
  module: Argument.String("MODULE").pipe(
    Argument.withDescription("The file whose default export is a Worker; TypeScript needs no compiling")
  ),
  inProcess: Flag.Boolean("in-process").pipe(
    Flag.withDescription("Run attempts in this process, even if there is a Ray"),
    Flag.withDefault(false)
  ),
  settings: flags.of(keys, defaults)
}

type Input = Command.Command.Config.Infer<typeof config>
type DevSettings = Pick<Settings.Settings, (typeof keys)[number]>

/** A database for development: the address to print, and how to reach it. */
interface Postgres {
  readonly url: Redacted.Redacted<string>
  readonly line: string
}

/** The project's Postgres belongs to another `dev`. */
export class AlreadyRunning
  extends Schema.TaggedError<AlreadyRunning>("effect-ray/AlreadyRunning")("AlreadyRunning", { detail: Schema.String })
{
  override get message() {
    return "another `effect-ray dev` runs in this folder; stop it, or set DATABASE_URL to the address that it printed. "
      + "If none is running, its Postgres was killed and another program has its process id: remove the file that Postgres names. "
      + this.detail
  }
}

/** A port that an ordinary user's server may have; undefined for anything else in the file. */
const portIn = (text: string): number | undefined => {
  const port = /^\d{4,5}$/.test(text.trim()) ? Number(text) : 0
  return port >= 1024 && port <= 65535 ? port : undefined
}

/** The port of the last start, so that the address stays the same; any free one if it is taken. */
const embedded = Effect.fnUntraced(function*(folder: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const record = path.join(folder, "postgres.port")
  const last = portIn(yield* Effect.orElseSucceed(fs.readFileString(record), () => ""))
  const options = { dataFolder: path.join(folder, "postgres"), resolveFrom: [import.meta.url] }
  const start = EmbeddedPostgres.make(options)
  const server = yield* (last !== undefined
    ? Effect.catchIf(
      EmbeddedPostgres.make({ ...options, port: last }),
      (error) => error.detail.includes("Address already in use"),
      () => start
    )
    : start).pipe(
      Effect.mapError((error) =>
        error.detail.includes("postmaster.pid") ? new AlreadyRunning({ detail: error.detail }) : error
      )
    )
  yield* stateFolder.write(record, String(server.port))
  return server
})

const postgres = Effect.fnUntraced(function*(settings: DevSettings, folder: string) {
  if (Option.isSome(settings.databaseUrl)) {
    const url = settings.databaseUrl.value
    yield* database.whenThere(url, settings.startTimeout)
    return { url, line: `postgres://${database.where(url)} (DATABASE_URL)` } satisfies Postgres
  }
  yield* Effect.logInfo("starting a Postgres")
  const server = yield* embedded(folder)
  // The password protects a throw-away server on this machine, and the application needs it.
  return { url: server.url, line: `${Redacted.value(server.url)} (data in ${server.dataFolder})` } satisfies Postgres
})

interface Ray {
  readonly runner: Layer.Layer<
    Runner,
    Layer.Error<ReturnType<typeof runners.local>> | runners.HandlersFailed,
    GatewayRegistry
  >
  readonly lines: ReadonlyArray<string>
}

const ray = Effect.fnUntraced(function*(
  module: WorkerModule.WorkerModule,
  settings: DevSettings,
  input: Input,
  folder: string
) {
  const none = (why: string): Ray => ({
    runner: runners.inProcess(module, "in-process"),
    lines: [`Ray       none, attempts run in this process: ${why}`]
  })
  if (input.inProcess) return none("--in-process")
  if (Option.isSome(settings.rayAddress)) {
    const address = settings.rayAddress.value
    const at = { address, token: yield* Effect.orDie(rayToken.find(settings, flags.given(input.settings))) }
    yield* runners.whenThere(settings, at)
    return {
      runner: runners.ray(module, settings, at),
      lines: [`Ray       ${address} (RAY_ADDRESS)`]
    } satisfies Ray
  }
  const local = yield* Effect.result(localRay.make(folder))
  if (local._tag === "Failure") {
    // A Python that the user named must have a Ray; otherwise attempts can run here as well.
    return (yield* localRay.isNamed) ? yield* local.failure : none(local.failure.message)
  }
  const { address, found, latest, logs, tokenFile } = local.success
  yield* Effect.forkScoped(hostLogs.follow(Effect.map(latest, ({ logs }) => logs)))
  return {
    runner: Layer.provide(runners.local(module, settings), Layer.succeed(LocalRay.LocalRay, local.success)),
    lines: [
      `Ray       ${address} (${found ? "found" : "started"}; its token is in ${tokenFile})`,
      `Logs      ${logs} (what handlers log is shown here, and kept in worker-*.out)`
    ]
  } satisfies Ray
})

const run = Effect.fnUntraced(function*(input: Input, settings: DevSettings) {
  yield* serving.stoppable
  const module = yield* WorkerModule.load(input.module)
  const folder = yield* stateFolder.make
  const store = yield* postgres(settings, folder)
  const client = database.layer(store.url, { prepare: settings.prepare })
  // Before a Ray is started, so that a Postgres that does not answer is reported at once.
  yield* Effect.provide(database.migrate(settings), client)
  const cluster = yield* ray(module, settings, input, folder)
  const queues = [...new Set(module.worker.tasks.map((task) => task.options.queue))]
  yield* Console.log([
    "",
    `  Postgres  ${store.line}`,
    ...cluster.lines.map((line) => `  ${line}`),
    `  Worker    ${module.path}, queues ${queues.join(", ")}; start again to see changes of it`,
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

const load = (input: Input) =>
  Settings.load({
    keys,
    flags: flags.given(input.settings),
    defaults,
    unread: input.inProcess ? serving.unread("in-process") : [],
    validate: validate(input)
  })

export const dev = Command.make("dev", config, (input) =>
  Effect.flatMap(
    logging.printed(load(input)),
    (settings) => logging.logged(settings.logFormat)(Effect.scoped(run(input, settings)))
  )).pipe(
    Command.withDescription(
      "Serves a worker for development, with a Postgres and a Ray of the project's own, kept in .effect-ray. "
        + "Without Ray on this machine attempts run in the command's own process. It does not reload on change."
    ),
    Command.withExamples([
      { command: "effect-ray dev src/worker.ts", description: "Start all, print the addresses, serve" },
      {
        command: "DATABASE_URL=postgres://me@localhost/app effect-ray dev src/worker.ts",
        description: "With an existing Postgres"
      }
    ])
  )

/** `effect-ray worker MODULE` */
import type { Runner } from "@effect-ray/core/Runner"
import type { GatewayRegistry } from "@effect-ray/core/GatewayRegistry"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Settings from "../../Settings.ts"
import type { Problem } from "../../SettingsError.ts"
import * as WorkerModule from "../../WorkerModule.ts"
import * as database from "../database.ts"
import * as flags from "../flags.ts"
import * as localRay from "../localRay.ts"
import * as logging from "../logging.ts"
import * as rayToken from "../rayToken.ts"
import * as runners from "../runners.ts"
import * as serving from "../serve.ts"
import * as stateFolder from "../stateFolder.ts"

const keys = [...serving.keys, "runner"] as const

const config = {
  module: Argument.String("MODULE").pipe(
    Argument.withDescription("The file whose default export is a Worker; TypeScript needs no compiling")
  ),
  queues: Flag.String("queue").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription("Serve only this queue; may be repeated. Default: all queues of the worker's tasks"),
    Flag.atLeast(0)
  ),
  sync: Flag.Boolean("sync").pipe(
    Flag.withDescription("Run attempts in this process, one at a time: for debugging"),
    Flag.withDefault(false)
  ),
  inProcess: Flag.Boolean("in-process").pipe(
    Flag.withDescription("Run attempts in this process, as parallel fibers"),
    Flag.withDefault(false)
  ),
  local: Flag.Boolean("local").pipe(
    Flag.withDescription("Run attempts on a Ray of this machine, found or started"),
    Flag.withDefault(false)
  ),
  settings: flags.of(keys)
}

type Input = Command.Command.Config.Infer<typeof config>

const modes = (input: Input): ReadonlyArray<Settings.Runner> => [
  ...(input.sync ? ["sync" as const] : []),
  ...(input.inProcess ? ["in-process" as const] : []),
  ...(input.local ? ["local" as const] : [])
]

/** The mode flags are short for `--runner`. */
const flagsOf = (input: Input): Settings.Flags => {
  const given = flags.given(input.settings)
  const [mode] = modes(input)
  return mode === undefined ? given : { runner: mode, ...given }
}

const contradiction = (input: Input): ReadonlyArray<Problem> => {
  const given = [
    ...modes(input).map((mode) => `--${mode}`),
    ...(Option.isSome(input.settings.runner) ? ["--runner"] : [])
  ]
  if (given.length < 2) return []
  return [{
    setting: given.join(" and "),
    source: Option.none(),
    value: Option.none(),
    problem: "contradict each other",
    fix: "Give one of --sync, --in-process, --local and --runner."
  }]
}

/** What is missing or does not fit together. */
const validate = (input: Input) => (settings: Partial<Settings.Settings>) =>
  Effect.gen(function*() {
    const problems: Array<Problem> = [...contradiction(input)]
    if (settings.databaseUrl !== undefined && Option.isNone(settings.databaseUrl)) {
      problems.push(Settings.missing("databaseUrl", "`effect-ray dev` starts a Postgres of its own."))
    }
    if (settings.runner !== "ray") return problems
    if (settings.rayAddress !== undefined && Option.isNone(settings.rayAddress)) {
      problems.push(Settings.missing("rayAddress", "Or run without that cluster: --local, --in-process or --sync."))
    }
    const token = yield* Effect.result(rayToken.find(settings, flagsOf(input)))
    if (token._tag === "Failure") problems.push(token.failure)
    return problems
  })

type WorkerSettings = Pick<Settings.Settings, (typeof keys)[number]>

const clusterOf = Effect.fnUntraced(function*(settings: WorkerSettings, input: Input) {
  return {
    address: Option.getOrThrow(settings.rayAddress),
    token: yield* Effect.orDie(rayToken.find(settings, flagsOf(input)))
  }
})

type RunnerLayer = Effect.Success<ReturnType<typeof runnerOf>>

const runnerOf = Effect.fnUntraced(
  function*(module: WorkerModule.WorkerModule, settings: WorkerSettings, input: Input) {
    switch (settings.runner) {
      case "in-process":
      case "sync":
        return runners.inProcess(module, settings.runner)
      case "local":
        return Layer.provide(runners.local(module, settings), localRay.layer(yield* stateFolder.make))
      case "ray": {
        const at = yield* clusterOf(settings, input)
        yield* runners.whenThere(settings, at)
        return runners.ray(module, settings, at)
      }
    }
  }
)

const run = Effect.fnUntraced(function*(input: Input, settings: WorkerSettings) {
  yield* serving.stoppable
  const module = yield* WorkerModule.load(input.module)
  yield* serving.checkQueues(module, input.queues)
  // What can never work is reported before anything is waited for.
  if (settings.runner === "ray") yield* runners.checkAddress(settings, yield* clusterOf(settings, input))
  const url = Option.getOrThrow(settings.databaseUrl)
  yield* database.whenThere(url, settings.startTimeout)
  const runner: Layer.Layer<Runner, Layer.Error<RunnerLayer>, GatewayRegistry> = yield* runnerOf(
    module,
    settings,
    input
  )
  const store = Layer.provide(database.layerStore(settings), database.layer(url, { prepare: settings.prepare }))
  yield* Effect.logInfo("worker starting").pipe(Effect.annotateLogs({
    module: module.path,
    runner: settings.runner,
    database: database.where(url),
    schema: settings.schema
  }))
  return yield* Effect.provide(
    serving.serve({ module, queues: input.queues, settings }),
    // The runner reads the limits while it is built, the supervisor while it runs.
    Layer.provideMerge(Layer.provideMerge(runner, store), Settings.limits(settings))
  )
})

/** The runner decides which settings are read. An unknown runner reads all of them. */
const load = (input: Input) =>
  Effect.gen(function*() {
    const flags = flagsOf(input)
    const { runner } = yield* Effect.orElseSucceed(
      Settings.load({ keys: ["runner"], flags }),
      () => ({ runner: "ray" as const })
    )
    return yield* Settings.load({ keys, flags, unread: serving.unread(runner), validate: validate(input) })
  })

export const worker = Command.make("worker", config, (input) =>
  Effect.flatMap(
    logging.printed(load(input)),
    (settings) => logging.logged(settings.logFormat)(run(input, settings))
  )).pipe(
    Command.withDescription("Serves the tasks of the Worker that MODULE exports as default, until SIGTERM or SIGINT"),
    Command.withExamples([
      { command: "effect-ray worker src/worker.ts", description: "All queues, on the Ray at RAY_ADDRESS" },
      { command: "effect-ray worker src/worker.ts --queue images --queue mail", description: "Two queues only" },
      { command: "effect-ray worker src/worker.ts --local", description: "On a Ray of this machine" },
      { command: "effect-ray worker src/worker.ts --in-process --concurrency 20", description: "Without Ray" }
    ])
  )

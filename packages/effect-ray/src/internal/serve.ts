/** Runs a worker's tasks until interrupted: what `worker` and `dev` have in common. */
import * as Runner from "@effect-ray/core/Runner"
import * as RunHost from "@effect-ray/core/RunHost"
import * as RunStore from "@effect-ray/core/RunStore"
import * as Supervisor from "@effect-ray/core/Supervisor"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"
import type * as Settings from "../Settings.ts"
import { SettingsError } from "../SettingsError.ts"
import type { WorkerModule } from "../WorkerModule.ts"
import { Program } from "./program.ts"
import { whyNot } from "./runners.ts"

/** The worker has no task that its runner can run. */
export class NothingToServe extends Schema.TaggedError<NothingToServe>("effect-ray/NothingToServe")("NothingToServe", {
  runner: Schema.String,
  tasks: Schema.Array(Schema.String)
}) {
  override readonly [Runtime.errorExitCode] = 2
  override get message() {
    return this.tasks.length === 0
      ? "The worker has no tasks and no workflows. Name them: Worker.make({ tasks: [Render], handlers: RenderLive })"
      : `The ${this.runner} runner can run none of the requested tasks: ${this.tasks.join(", ")}. `
        + "Python tasks need Ray."
  }
}

/** The settings that `worker` and `dev` both read. */
export const keys = [
  "databaseUrl",
  "listenUrl",
  "prepare",
  "schema",
  "deployment",
  "rayAddress",
  "rayAuthToken",
  "rayAuthTokenPath",
  "allowOpenCluster",
  "gatewayPort",
  "gatewayBind",
  "gatewayAdvertise",
  "concurrency",
  "retryBackoff",
  "maxAttempts",
  "lease",
  "drain",
  "startTimeout",
  "unschedulableAfter",
  "maxResultBytes",
  "maxPayloadBytes",
  "logFormat"
] as const satisfies ReadonlyArray<Settings.Key>

/** Settings that only Ray's runners read; those of a cluster only if it is the one at `RAY_ADDRESS`. */
const clusterKeys = ["rayAddress", "rayAuthToken", "rayAuthTokenPath", "allowOpenCluster"] as const
const rayKeys = [
  ...clusterKeys,
  "deployment",
  "gatewayPort",
  "gatewayBind",
  "gatewayAdvertise",
  "unschedulableAfter"
] as const

/** Settings that a runner never reads, so that their variables may be wrong. */
export const unread = (runner: Settings.Runner): ReadonlyArray<Settings.Key> =>
  runner === "ray" ? [] : runner === "local" ? clusterKeys : rayKeys

export interface Options {
  readonly module: WorkerModule
  /** The queues to serve. Empty: all queues of the worker's tasks. */
  readonly queues: ReadonlyArray<string>
  readonly settings: Pick<Settings.Settings, "concurrency" | "lease" | "drain" | "unschedulableAfter">
}

/** Refuses a queue that none of the worker's tasks uses, because nothing would ever be claimed from it. */
export const checkQueues = Effect.fnUntraced(function*(
  { worker }: WorkerModule,
  queues: ReadonlyArray<string>
): Effect.fn.Return<void, SettingsError> {
  const known = [
    ...new Set(worker.tasks.map((task) => task.options.queue)),
    ...(worker.workflows === undefined ? [] : [RunStore.queue])
  ]
  const [first, ...rest] = queues.filter((queue) => !known.includes(queue)).map((queue) => ({
    setting: "--queue",
    source: Option.some("--queue"),
    value: Option.some(queue),
    problem: "is not a queue of any of the worker's tasks",
    fix: `Its queues are: ${known.join(", ")}.`
  }))
  if (first !== undefined) return yield* new SettingsError({ problems: [first, ...rest] })
})

/** The workflows' layer failed. */
export class WorkflowsFailed extends Schema.TaggedError<WorkflowsFailed>("effect-ray/WorkflowsFailed")(
  "WorkflowsFailed",
  { detail: Schema.String }
) {
  override get message() {
    return `The layer of the worker's workflows could not be built: ${this.detail}`
  }
}

const runsOf = ({ worker }: WorkerModule) =>
  Effect.catchCause(
    RunHost.ofWorker(worker),
    (cause) => Effect.fail(new WorkflowsFailed({ detail: whyNot(cause) }))
  )

/** From here on, being stopped is a normal end: the process exits with 0. */
export const stoppable = Effect.map(Program, (program) => {
  program.interrupted = 0
})

/** Serves until interrupted, then drains. */
export const serve = Effect.fnUntraced(function*({ module, queues, settings }: Options) {
  const runner = yield* Runner.Runner
  const program = yield* Program
  const tasks = module.worker.tasks.filter((task) => queues.length === 0 || queues.includes(task.options.queue))
  const servesRuns = module.worker.workflows !== undefined
    && (queues.length === 0 || queues.includes(RunStore.queue))
  if (!servesRuns && !tasks.some((task) => runner.supports(task))) {
    return yield* new NothingToServe({
      runner: runner.name,
      tasks: tasks.map((task) => `${task._tag} (${task.runtime === "python" ? "Python" : "TypeScript"})`)
    })
  }
  const runs = servesRuns ? yield* runsOf(module) : undefined
  return yield* Supervisor.run({
    worker: module.worker,
    runs,
    ...(queues.length === 0 ? {} : { queues }),
    concurrency: settings.concurrency,
    lease: settings.lease,
    drain: settings.drain,
    unschedulableAfter: settings.unschedulableAfter,
    label: program.label
  }).pipe(
    Effect.onExit((exit) => Exit.hasInterrupts(exit) ? Effect.logInfo("worker stopped") : Effect.void)
  )
}, Effect.scoped)

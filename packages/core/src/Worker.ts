/**
 * What a worker serves: tasks with the layer of their handlers, and workflows.
 *
 * A worker module exports one as default, and `effect-ray worker MODULE` runs it. A
 * supervisor reads `tasks` without building `handlers`, so it loads no model and opens
 * no connection that only hosts need.
 */
import type * as Layer from "effect/Layer"
import type { WorkflowEngine } from "effect/workflow/WorkflowEngine"
import type * as Task from "./Task.ts"

const TypeId = "~@effect-ray/core/Worker"

/** What a worker module exports as default: tasks, and what their hosts need. @category models */
export interface Worker<out Tasks extends Task.Any = Task.Any> {
  readonly [TypeId]: typeof TypeId
  /** The tasks it serves. */
  readonly tasks: ReadonlyArray<Tasks>
  /** Built once in each handler thread. Undefined if every task is a Python task. */
  readonly handlers: Layer.Layer<never, unknown> | undefined
  /** Registers the workflows that it serves. Built once, in the worker's own process. Undefined if there are none. */
  readonly workflows: Layer.Layer<never, unknown, WorkflowEngine> | undefined
  /** The folder with the Python modules, relative to the worker module. Undefined: the hosts have them installed. */
  readonly python: string | undefined
  /** Names of environment variables that hosts may see. */
  readonly env: ReadonlyArray<string>
  /** Names of npm packages that travel as they are installed, beside the bundle. */
  readonly external: ReadonlyArray<string>
}

type Handlers<Tasks extends Task.Any, E> = [Task.HandlerOf<Tasks>] extends [never] ? { readonly handlers?: undefined }
  : { readonly handlers: Layer.Layer<Task.HandlerOf<Tasks>, E> }

type Python<Tasks extends Task.Any> = [Extract<Tasks, { readonly runtime: "python" }>] extends [never]
  ? { readonly python?: string | null }
  : {
    /**
     * The folder with the Python modules, relative to the worker module. It travels to the hosts. `null`: the hosts
     * have the modules installed.
     */
    readonly python: string | null
  }

/**
 * Makes a worker. These are compile errors: a task without a handler, a handler that needs a service nobody provides,
 * and a Python task without `python`.
 *
 * @category constructors
 */
export const make = <const Tasks extends ReadonlyArray<Task.Any>, E = never>(
  options:
    & {
      /** The tasks to serve, each name once. */
      readonly tasks: Tasks
      /**
       * The workflows to serve: what their `toLayer` returns, with all that their bodies need except the engine. They run
       * in the worker's own process. Default: none.
       */
      readonly workflows?: Layer.Layer<never, unknown, WorkflowEngine>
      /** The names of environment variables that hosts may see. They see no others. Default: none. */
      readonly env?: ReadonlyArray<string>
      /**
       * The names of npm packages that travel to hosts as they are installed, instead of in the bundle: packages that
       * read files of their own. Packages with native code are found without being named. Default: none.
       */
      readonly external?: ReadonlyArray<string>
    }
    & Handlers<Tasks[number], E>
    & Python<Tasks[number]>
): Worker<Tasks[number]> => {
  const tags = new Set<string>()
  for (const task of options.tasks) {
    if (tags.has(task._tag)) {
      throw new Error(`Worker.make: two tasks are named "${task._tag}"; names must be unique`)
    }
    tags.add(task._tag)
    if (task.runtime === "python" && options.python === undefined) {
      throw new Error(
        `Worker.make: ${task._tag} is a Python task; name the folder of its module (python: "./python"), `
          + "or say that the hosts have it installed (python: null)"
      )
    }
  }
  return {
    [TypeId]: TypeId,
    tasks: options.tasks,
    // Each task reads its handler by its own key, so the layer's output type is no longer needed here.
    handlers: options.handlers as Layer.Layer<never, unknown> | undefined,
    workflows: options.workflows,
    python: options.python ?? undefined,
    env: options.env ?? [],
    external: options.external ?? []
  }
}

/**
 * Whether a value is a worker. The command line checks a module's default export with it.
 *
 * @category guards
 */
export const isWorker = (u: unknown): u is Worker => typeof u === "object" && u !== null && TypeId in u

/**
 * The worker that a module exports as default; undefined if the default export is something else. A module compiled to
 * CommonJS has its own exports as its default, and the worker as `default` of those.
 *
 * @category guards
 */
export const fromDefault = (exported: unknown): Worker | undefined => {
  if (isWorker(exported)) return exported
  if (typeof exported !== "object" || exported === null || !("default" in exported)) return undefined
  return isWorker(exported.default) ? exported.default : undefined
}

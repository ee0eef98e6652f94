/**
 * The module that `effect-ray worker MODULE` runs: its default export is a `Worker`.
 *
 * TypeScript modules are imported as they are; Node strips their types.
 */
import * as Handler from "@effect-ray/core/Handler"
import * as Worker from "@effect-ray/core/Worker"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import * as Path from "effect/Path"
import * as Runtime from "effect/Runtime"
import * as Schema from "effect/Schema"

/**
 * The module cannot be served; `fix` says what to write.
 *
 * @category errors
 */
export class WorkerModuleError extends Schema.TaggedError<WorkerModuleError>("effect-ray/WorkerModuleError")(
  "WorkerModuleError",
  {
    module: Schema.String,
    reason: Schema.Literals(["NotFound", "NotImported", "NotAWorker", "NoPythonFolder"]),
    detail: Schema.String,
    fix: Schema.String
  }
) {
  override readonly [Runtime.errorExitCode] = this.reason === "NotImported" ? 1 : 2
  override get message() {
    return `${this.module} ${this.detail}\n${this.fix}`
  }
}

/**
 * A worker and the file it came from.
 *
 * @category models
 */
export interface WorkerModule {
  /** The absolute path of the file. */
  readonly path: string
  /** The module's default export. */
  readonly worker: Worker.Worker
}

const template = `Write, for instance:

  import { Worker } from "effect-ray"

  export default Worker.make({ tasks: [Render], handlers: RenderLive })
`

/**
 * Imports the module and returns the worker that it exports as default.
 *
 * @category loading
 */
export const load = Effect.fn("WorkerModule.load")(function*(
  module: string
): Effect.fn.Return<WorkerModule, WorkerModuleError, FileSystem.FileSystem | Path.Path> {
  const path = yield* Path.Path
  const file = yield* find(module)
  const url = yield* Effect.orDie(path.toFileUrl(file))
  const imported = yield* Effect.tryPromise({
    try: (): Promise<Readonly<Record<string, unknown>>> => import(url.href),
    catch: (error) =>
      new WorkerModuleError({
        module,
        reason: "NotImported",
        detail: `cannot be imported: ${text(error)}`,
        fix: hint(error)
      })
  })
  const worker = Worker.fromDefault(imported["default"])
  if (worker !== undefined) {
    yield* checkPython(module, path.dirname(file), worker)
    return { path: file, worker }
  }
  return yield* new WorkerModuleError({
    module,
    reason: "NotAWorker",
    detail: elsewhere(imported)
      ?? ("default" in imported ? "has a default export that is not a Worker." : "has no default export."),
    fix: template
  })
})

/** Reports a missing folder now, rather than after a Ray has been started for it. */
const checkPython = Effect.fnUntraced(function*(module: string, from: string, { python }: Worker.Worker) {
  if (python === undefined) return
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const folder = path.resolve(from, python)
  const info = yield* Effect.option(fs.stat(folder))
  if (info._tag === "Some" && info.value.type === "Directory") return
  return yield* new WorkerModuleError({
    module,
    reason: "NoPythonFolder",
    detail: `names the Python folder ${JSON.stringify(python)}, but ${folder} is not a folder.`,
    fix: "Correct `python` in its Worker.make. The folder is relative to the module."
  })
})

const elsewhere = (imported: Readonly<Record<string, unknown>>): string | undefined => {
  const name = Object.keys(imported).find((key) => Worker.isWorker(imported[key]))
  return name === undefined ? undefined : `exports a Worker as "${name}", not as default.`
}

const extensions = [".ts", ".mts", ".cts", ".js", ".mjs", ".cjs"]

const find = Effect.fnUntraced(function*(module: string) {
  const fs = yield* FileSystem.FileSystem
  const path = yield* Path.Path
  const file = path.resolve(module)
  const isFile = (candidate: string) =>
    Effect.match(fs.stat(candidate), { onFailure: () => false, onSuccess: (info) => info.type === "File" })
  if (yield* isFile(file)) return file
  for (const extension of extensions) {
    if (!(yield* isFile(file + extension))) continue
    return yield* new WorkerModuleError({
      module,
      reason: "NotFound",
      detail: "does not exist.",
      fix: `Did you mean ${module}${extension}?`
    })
  }
  return yield* new WorkerModuleError({
    module,
    reason: "NotFound",
    detail: `is not a file (looked for ${file}).`,
    fix: "Name the file with the worker, relative to the working directory."
  })
})

// The error's own stack may show the line of the module. If there are causes, they say more.
const text = (error: unknown): string =>
  error instanceof Error && error.stack !== undefined && error.cause === undefined && !("errors" in error)
    ? error.stack
    : Handler.defect(Cause.die(error)).stack

const hint = (error: unknown): string => {
  const code = error instanceof Error && "code" in error ? error.code : undefined
  switch (code) {
    case "ERR_MODULE_NOT_FOUND":
      return "Imports must name files with their extension, as in \"./tasks.ts\"; packages must be installed."
    case "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX":
    case "ERR_INVALID_TYPESCRIPT_SYNTAX":
      return "Node strips types and compiles nothing: leave out enums, namespaces and parameter properties, or compile the module."
    case "ERR_UNKNOWN_FILE_EXTENSION":
    case "ERR_UNSUPPORTED_NODE_MODULES_TYPE_STRIPPING":
      return "Node 22.19 or newer strips types, outside node_modules; compile the module otherwise."
    default:
      return "The module itself failed while it was loaded."
  }
}

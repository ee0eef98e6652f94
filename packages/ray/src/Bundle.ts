/**
 * Makes a worker module into the packages that Ray carries to its hosts.
 *
 * The Node package is the module with all that it imports in one file, and the host that runs it; the Python package is
 * the worker's Python folder. Both are zips that depend on nothing but their content, so equal content has one name
 * and is uploaded once.
 */
import * as Effect from "effect/Effect"
import * as esbuild from "esbuild"
import { type AsyncZippable, zip } from "fflate"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { BundleFailed, RayError } from "./RayError.ts"

/** Files that one Python folder may hold. @category constants */
export const maxPythonFiles = 10_000

/** The most bytes that go into one package, before compression. @category constants */
export const maxSourceBytes = 200 * 1024 * 1024

/** The newest syntax that hosts understand: the oldest Node that Effect runs on. */
const target = "node22.19"

/** Zips have no dates before 1980 and ours all have the first of them. */
const epoch = "1980-01-01T00:00:00"

/** The host's own sources lie beside this file, as TypeScript or compiled. */
const extension = path.extname(fileURLToPath(import.meta.url))
const hostFile = (name: string): string => fileURLToPath(new URL(`./host/${name}${extension}`, import.meta.url))

/** What is never part of a Python package. */
const ignored = new Set([
  "__pycache__",
  ".git",
  ".venv",
  "venv",
  "node_modules",
  ".pytest_cache",
  ".mypy_cache",
  ".DS_Store"
])

const failed = (module: string, detail: string) => new RayError({ reason: new BundleFailed({ module, detail }) })

/**
 * A file of a package.
 *
 * @category models
 */
export interface File {
  readonly content: Uint8Array
  /** Unix permissions. Default 0644. */
  readonly mode?: number
}

/**
 * Zips files, the same way every time.
 *
 * @category constructors
 */
export const pack = (files: Readonly<Record<string, File>>): Effect.Effect<Uint8Array> =>
  Effect.callback((resume) => {
    const entries: AsyncZippable = {}
    for (const name of Object.keys(files).sort()) {
      const { content, mode = 0o644 } = files[name]!
      entries[name] = [content, { os: 3, attrs: (0o100000 | mode) * 0x1_0000, mtime: epoch, level: 6 }]
    }
    const stop = zip(entries, (error, data) => resume(error === null ? Effect.succeed(data) : Effect.die(error)))
    return Effect.sync(stop)
  })

/**
 * The Node package of a worker module: `host.mjs` and `thread.mjs`.
 *
 * @category constructors
 */
export const node = Effect.fn("Bundle.node")(function*(module: string): Effect.fn.Return<Uint8Array, RayError> {
  const file = path.resolve(module)
  const [host, thread] = yield* Effect.all([
    build(file, { entryPoints: [hostFile("main")] }),
    build(file, {
      stdin: {
        contents:
          `import worker from ${JSON.stringify(file)}\nimport { start } from ${JSON.stringify(hostFile("thread"))}\n` +
          `export default start(worker)\n`,
        resolveDir: path.dirname(file),
        sourcefile: "effect-ray-host.js"
      },
      // Stacks then name the user's files and lines. The sources themselves stay here.
      sourcemap: "inline",
      sourcesContent: false
    })
  ], { concurrency: 2 })
  return yield* pack({ "host.mjs": { content: host }, "thread.mjs": { content: thread } })
})

const build = (module: string, input: esbuild.BuildOptions): Effect.Effect<Uint8Array, RayError> =>
  Effect.tryPromise({
    try: () =>
      esbuild.build({
        ...input,
        // Paths in the bundle begin here, so the same module makes the same package from any working directory.
        absWorkingDir: path.dirname(module),
        bundle: true,
        write: false,
        format: "esm",
        platform: "node",
        target,
        minify: false,
        legalComments: "none",
        logLevel: "silent",
        conditions: extension === ".ts" ? ["@effect-ray/source"] : [],
        // Packages written for CommonJS ask for Node's own modules by `require`.
        banner: {
          js:
            `import { createRequire as effectRayRequire } from "node:module";const require = effectRayRequire(import.meta.url);`
        }
      }),
    catch: (error) => failed(module, describe(error))
  }).pipe(
    Effect.flatMap((result) => {
      const content = result.outputFiles[0]!.contents
      return content.byteLength <= maxSourceBytes
        ? Effect.succeed(content)
        : Effect.fail(failed(module, `it has ${content.byteLength} bytes, the limit is ${maxSourceBytes}`))
    })
  )

const isBuildFailure = (error: unknown): error is esbuild.BuildFailure =>
  error instanceof Error && "errors" in error && Array.isArray(error.errors)

/** As a compiler would say it: file, line, column, and the line itself. */
const describe = (error: unknown): string => {
  if (!isBuildFailure(error)) return String(error)
  return esbuild.formatMessagesSync([...error.errors], { kind: "error", color: false }).join("").trim()
}

/**
 * The Python package of a folder.
 *
 * @category constructors
 */
export const python = Effect.fn("Bundle.python")(function*(folder: string): Effect.fn.Return<Uint8Array, RayError> {
  const files = yield* Effect.try({
    try: () => readFolder(path.resolve(folder)),
    catch: (error) => failed(folder, error instanceof Error ? error.message : String(error))
  })
  return yield* pack(files)
})

const readFolder = (root: string): Record<string, File> => {
  const files: Record<string, File> = {}
  let count = 0
  let bytes = 0
  const visit = (folder: string, prefix: string): void => {
    for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
      if (ignored.has(entry.name) || entry.name.endsWith(".pyc")) continue
      const name = `${prefix}${entry.name}`
      const file = path.join(folder, entry.name)
      if (entry.isDirectory()) {
        visit(file, `${name}/`)
      } else if (entry.isFile()) {
        const content = fs.readFileSync(file)
        bytes += content.byteLength
        if (++count > maxPythonFiles) throw new Error(`the Python folder has more than ${maxPythonFiles} files`)
        if (bytes > maxSourceBytes) throw new Error(`the Python folder has more than ${maxSourceBytes} bytes`)
        files[name] = { content }
      }
    }
  }
  visit(root, "")
  return files
}

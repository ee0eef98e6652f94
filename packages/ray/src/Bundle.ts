/**
 * Makes the packages of a worker module, which Ray delivers to its hosts.
 *
 * The Node package has the bundle, which is the module and everything it imports in one file, and the program of the
 * host. External packages, which are those with native code and those that the worker names, lie beside the bundle. The
 * Python package is the worker's Python folder without secrets and generated files. Both are zips that depend only on
 * their content: equal content has the same name and is uploaded once.
 */
import * as Effect from "effect/Effect"
import * as esbuild from "esbuild"
import { type AsyncZippable, zip } from "fflate"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { addPackages, type Inputs, nativePackages, packageName } from "./internal/installedPackages.ts"
import { outside } from "./internal/outside.ts"
import { asksForLocation, fileLocations, locationBanner, locationNames } from "./internal/fileLocations.ts"
import { readPythonFolder } from "./internal/pythonFolder.ts"
import { droppedImports, keepImports } from "./internal/sideEffects.ts"
import { type File, maxSourceBytes, Source } from "./internal/sourceFolder.ts"
import { BundleFailed, RayError } from "./RayError.ts"

export { type File, maxFiles, maxSourceBytes } from "./internal/sourceFolder.ts"

/** The newest syntax that hosts support: that of the oldest Node that Effect runs on. */
const target = "node22.19"

/** The date of every file in a zip: the earliest one that the format has. */
const epoch = "1980-01-01T00:00:00"

/** How many names one line of the log has. */
const maxNames = 10

/** The host's sources are beside this file, as TypeScript or compiled. */
const extension = path.extname(fileURLToPath(import.meta.url))
const hostFile = (name: string): string => fileURLToPath(new URL(`./host/${name}${extension}`, import.meta.url))

const failed = (module: string, detail: string) => new RayError({ reason: new BundleFailed({ module, detail }) })

/**
 * Zips files. The same files always make the same zip.
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
 * Makes the Node package of a worker module: `host.mjs`, `thread.mjs`, and `node_modules` with the external packages,
 * which are those in `options.external` and those with native code. Fails with `BundleFailed`.
 *
 * @category constructors
 */
export const node = Effect.fn("Bundle.node")(function*(
  module: string,
  options: { readonly external?: ReadonlyArray<string> } = {}
): Effect.fn.Return<Uint8Array, RayError> {
  const file = path.resolve(module)
  const named = options.external ?? []
  const bundle = (native: ReadonlySet<string>, plugins: ReadonlyArray<esbuild.Plugin>) =>
    build(file, {
      stdin: {
        contents:
          `import { start } from ${JSON.stringify(hostFile("thread"))}\nimport worker from ${JSON.stringify(file)}\n` +
          `export default start(worker)\n`,
        resolveDir: path.dirname(file),
        sourcefile: "effect-ray-host.js"
      },
      // Packages with native code are found in the first bundle and left out of the second.
      loader: { ".node": "empty" },
      define: locationNames,
      plugins: [outside({ named, native }), ...plugins],
      // Stack traces then show the user's files and lines. The sources themselves are not included.
      sourcemap: "inline",
      sourcesContent: false
    })
  const [host, first] = yield* Effect.all(
    [build(file, { entryPoints: [hostFile("main")] }), bundle(new Set(), [])],
    { concurrency: 2 }
  )
  // Few workers need the following, so what they need is found by examining the first bundle.
  const native = yield* attempt(file, () => nativePackages(first.inputs))
  const plugins = [
    ...(asksForLocation(first.content) ? [fileLocations(first.inputs.keys(), path.dirname(file))] : []),
    ...(first.dropped.size > 0 ? [keepImports(first.dropped)] : [])
  ]
  const thread = native.size + plugins.length === 0 ? first : yield* bundle(native, plugins)
  const source = new Source(`${file} with the packages that travel beside its bundle`, "Let handlers import less.")
  const external = yield* attempt(file, () => {
    source.add("host.mjs", { content: host.content })
    source.add("thread.mjs", { content: thread.content })
    return addPackages(source, { inputs: thread.inputs, module: file, named })
  })
  if (external.length > 0) {
    yield* Effect.logInfo("these packages travel as they are installed here").pipe(
      Effect.annotateLogs({ packages: listed(external) })
    )
  }
  return yield* pack(source.files)
})

const attempt = <A>(what: string, run: () => A): Effect.Effect<A, RayError> =>
  Effect.try({ try: run, catch: (error) => failed(what, error instanceof Error ? error.message : String(error)) })

const listed = (names: ReadonlyArray<string>): string =>
  names.slice(0, maxNames).join(", ") + (names.length > maxNames ? `, and ${names.length - maxNames} more` : "")

interface Built {
  readonly content: Uint8Array
  readonly inputs: Inputs
  readonly dropped: ReadonlySet<string>
}

const build = (module: string, input: esbuild.BuildOptions): Effect.Effect<Built, RayError> =>
  Effect.tryPromise({
    try: () =>
      esbuild.build({
        ...input,
        // Paths in the bundle are relative to this folder, so that the package does not depend on the working
        // directory.
        absWorkingDir: path.dirname(module),
        bundle: true,
        write: false,
        metafile: true,
        format: "esm",
        platform: "node",
        target,
        // The module is compiled as Node would compile it. A tsconfig.json beside it is not read.
        tsconfigRaw: { compilerOptions: { useDefineForClassFields: true, verbatimModuleSyntax: true } },
        minify: false,
        // Tasks and errors may take their names from their classes. This makes the start of a host a twentieth slower.
        keepNames: true,
        legalComments: "none",
        logLevel: "silent",
        // The conditions of Node that esbuild does not add itself.
        conditions: ["module-sync", "node-addons", ...(extension === ".ts" ? ["@effect-ray/source"] : [])],
        // CommonJS packages load Node's own modules with `require`.
        banner: { js: locationBanner }
      }),
    catch: (error) => failed(module, describe(error, path.dirname(module)))
  }).pipe(
    Effect.flatMap(({ metafile, outputFiles, warnings }) => {
      const folder = path.dirname(module)
      const content = outputFiles![0]!.contents
      return content.byteLength <= maxSourceBytes
        ? Effect.succeed({
          content,
          inputs: inputsOf(metafile!, folder),
          dropped: droppedImports(warnings, folder)
        })
        : Effect.fail(failed(module, `the bundle has ${content.byteLength} bytes, the limit is ${maxSourceBytes}`))
    })
  )

/** The inputs of a bundle that are files, by absolute path. */
const inputsOf = ({ inputs }: esbuild.Metafile, folder: string): Inputs =>
  new Map(
    Object.entries(inputs).map(([name, { imports }]) =>
      [
        path.resolve(folder, name),
        imports.map((one) => ({ path: one.path, external: one.external === true }))
      ] as const
    ).filter(([file]) => fs.existsSync(file))
  )

const isBuildFailure = (error: unknown): error is esbuild.BuildFailure =>
  error instanceof Error && "errors" in error && Array.isArray(error.errors)

/**
 * Describes an error like a compiler: file, line, column and the line itself. For an error in an installed package it
 * also says how to leave the package out of the bundle.
 */
const describe = (error: unknown, folder: string): string => {
  if (!isBuildFailure(error)) return String(error)
  // Advice about esbuild's own options would not help.
  const errors = error.errors.map((one) => ({
    ...one,
    notes: one.notes.filter(({ text }) => !text.includes("mark the path"))
  }))
  const packages = new Set<string>()
  for (const { location } of errors) {
    const name = location === null ? undefined : packageName(path.resolve(folder, location.file))
    if (name !== undefined) packages.add(name)
  }
  const said = esbuild.formatMessagesSync(errors, { kind: "error", color: false }).join("").trim()
  if (packages.size === 0) return said
  return `${said}\n\nA package that cannot be bundled travels as it is installed: `
    + `Worker.make({ external: ${JSON.stringify([...packages])} }).`
}

/**
 * Makes the Python package of a folder: its files, with links followed, and the files in `beside` that the folder does
 * not have. Secrets, virtual environments, caches and files that match `.effect-ray-ignore` in the folder are left out.
 * The log names what was left out, except what Python generates. Fails with `BundleFailed`.
 *
 * @category constructors
 */
export const python = Effect.fn("Bundle.python")(function*(
  folder: string,
  beside: Readonly<Record<string, File>> = {}
): Effect.fn.Return<Uint8Array, RayError> {
  const { leftOut, source } = yield* attempt(folder, () => readPythonFolder(path.resolve(folder)))
  if (leftOut.length > 0) {
    yield* Effect.logInfo("left out of the Python folder; a line !NAME in its .effect-ray-ignore includes one").pipe(
      Effect.annotateLogs({ folder, count: leftOut.length, names: listed(leftOut) })
    )
  }
  return yield* pack({ ...beside, ...source.files })
})

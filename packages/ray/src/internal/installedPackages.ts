/**
 * External packages: npm packages that travel as they are installed, file by file, because they cannot be part of a
 * bundle. These are packages with native code, and those that the worker names.
 */
import * as fs from "node:fs"
import { isBuiltin } from "node:module"
import * as path from "node:path"
import { ignoring, leaving } from "./secretFiles.ts"
import type { Source } from "./sourceFolder.ts"

const segment = `node_modules${path.sep}`

/** Returns the name of the package that a specifier begins with; none for a path or one of Node's own modules. */
export const packageOf = (specifier: string): string | undefined => {
  if (/^[./#]|^[a-z]+:/i.test(specifier) || isBuiltin(specifier)) return undefined
  return /^(?:@[^/]+\/)?[^/]+/.exec(specifier)?.[0]
}

/** Returns the folder of the installed package that a file belongs to; none for the user's own files. */
export const folderOf = (file: string): string | undefined => {
  const at = file.lastIndexOf(segment)
  if (at < 0) return undefined
  const below = file.slice(at + segment.length).split(path.sep)
  return file.slice(0, at + segment.length) + below.slice(0, below[0]!.startsWith("@") ? 2 : 1).join(path.sep)
}

/** Returns the name under which the package of a file is installed; none for the user's own files. */
export const packageName = (file: string): string | undefined => {
  const folder = folderOf(file)
  return folder?.slice(folder.lastIndexOf(segment) + segment.length).replaceAll(path.sep, "/")
}

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly gypfile?: boolean
  readonly binary?: unknown
  readonly napi?: unknown
  readonly os?: unknown
  readonly cpu?: unknown
}

const manifestOf = (folder: string): Manifest => {
  const file = path.join(folder, "package.json")
  if (!fs.existsSync(file)) return {}
  try {
    const manifest: unknown = JSON.parse(fs.readFileSync(file, "utf8"))
    return typeof manifest === "object" && manifest !== null ? manifest : {}
  } catch (error) {
    throw new Error(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
}

const keysOf = (record: unknown): ReadonlyArray<string> =>
  typeof record === "object" && record !== null ? Object.keys(record) : []

/** Returns the folder of a package as Node finds it from another folder, with links resolved. */
const find = (name: string, from: string): string | undefined => {
  for (let folder = from;; folder = path.dirname(folder)) {
    const candidate = path.join(folder, "node_modules", name)
    if (fs.existsSync(path.join(candidate, "package.json"))) return fs.realpathSync(candidate)
    if (folder === path.dirname(folder)) return undefined
  }
}

/** Whether a package has native code, or depends on a package with native code for each platform. */
const isNative = (folder: string): boolean => {
  const manifest = manifestOf(folder)
  return manifest.gypfile === true || manifest.binary !== undefined || manifest.napi !== undefined
    || fs.existsSync(path.join(folder, "binding.gyp"))
    || keysOf(manifest.optionalDependencies).some((name) => {
      const found = find(name, folder)
      if (found === undefined) return false
      const { cpu, os } = manifestOf(found)
      return os !== undefined && cpu !== undefined
    })
}

/** The inputs of a bundle: absolute file names, each with its imports. */
export type Inputs = ReadonlyMap<string, ReadonlyArray<{ readonly path: string; readonly external: boolean }>>

/**
 * Returns the folders of the packages with native code among a bundle's inputs. Throws if native code belongs to no
 * installed package.
 */
export const nativePackages = (inputs: Inputs): ReadonlySet<string> => {
  const folders = new Set<string>()
  const native = new Set<string>()
  for (const [file, imports] of inputs) {
    const folder = folderOf(file)
    if (folder !== undefined) folders.add(folder)
    if (!file.endsWith(".node") && !imports.some((one) => one.external && one.path.endsWith(".node"))) continue
    if (folder === undefined) {
      throw new Error(
        `${file} is or imports native code, which a bundle cannot contain. Move it to a separate package and name that: `
          + `Worker.make({ external: ["the-package"] }).`
      )
    }
    native.add(folder)
  }
  for (const folder of folders) if (isNative(folder)) native.add(folder)
  return native
}

interface Placed {
  /** Where the package is installed. */
  readonly folder: string
  /** Its path within the zip, with a slash at its end; empty for the bundle itself. */
  readonly at: string
}

/**
 * Adds the external packages of a bundle with all their dependencies, as Node finds them from there. Returns the names
 * of the packages that the bundle itself imports. Throws if a package in `named` is not installed; a package that is
 * external because it was not found may be missing.
 */
export const addPackages = (
  source: Source,
  options: { readonly inputs: Inputs; readonly module: string; readonly named: ReadonlyArray<string> }
): ReadonlyArray<string> => {
  const wanted = new Map<string, string>()
  const want = (name: string, importer: string): boolean => {
    const folder = find(name, path.dirname(importer))
    if (folder === undefined) return false
    const other = wanted.get(name)
    if (other !== undefined && other !== folder) {
      throw new Error(
        `${name} cannot be part of the bundle, but two versions of it are imported: ${other} and ${folder}. `
          + `Install one of them for both.`
      )
    }
    wanted.set(name, folder)
    return true
  }
  for (const [file, imports] of options.inputs) {
    for (const { external, path: specifier } of imports) {
      const name = external ? packageOf(specifier) : undefined
      if (name !== undefined) want(name, file)
    }
  }
  for (const name of options.named) {
    if (!wanted.has(name) && !want(name, options.module)) {
      throw new Error(`Worker.make({ external }) names ${JSON.stringify(name)}, but no such package is installed.`)
    }
  }

  const placed = new Map<string, string>()
  const queue: Array<Placed> = []
  const place = (name: string, folder: string, at: string): void => {
    // From the nearest folder upwards, as Node searches.
    for (let above = at;; above = above.slice(0, above.lastIndexOf("node_modules/"))) {
      const there = placed.get(`${above}node_modules/${name}/`)
      if (there === folder) return
      if (there === undefined && above !== "") continue
      // Another version is in that place, so this one goes beside the package that imports it.
      const own = `${there === undefined ? "" : at}node_modules/${name}/`
      placed.set(own, folder)
      queue.push({ folder, at: own })
      return
    }
  }
  for (const [name, folder] of wanted) place(name, folder, "")
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    const { at, folder } = next
    // A linked package is one of the user's folders, which may contain anything.
    const leaves = folderOf(folder) === undefined ? leaving(ignoring()) : undefined
    source.folder(folder, at, (entry) => entry.name === "node_modules/" || leaves?.(entry) === true)
    const manifest = manifestOf(folder)
    const dependencies = new Set([
      ...keysOf(manifest.dependencies),
      ...keysOf(manifest.optionalDependencies),
      ...keysOf(manifest.peerDependencies)
    ])
    for (const name of dependencies) {
      const found = find(name, folder)
      if (found !== undefined) place(name, found, at)
    }
  }
  return [...wanted.keys()].sort()
}

/**
 * Which files of a folder the demo reads.
 *
 * Git is asked first, since it knows what to ignore. Elsewhere the folder is walked, without folders that hold other
 * people's files.
 */
import { Effect, Schema } from "effect"
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { promisify } from "node:util"

/** Larger files are left out. In the payload, as base64, they would be a third larger. */
export const maxBytes = 180_000

/** The largest files are read, at most this many. */
export const maxFiles = 48

/** Names that are looked at, at most. A bound for a folder like `/`. */
const maxNames = 20_000

const ignored = new Set(["node_modules", "dist", "build", "target", "coverage", "__pycache__", "venv"])

const extensions = new Set(
  ("md mdx txt rst adoc org tex html css ts tsx mts cts js jsx mjs cjs py rb rs go java kt scala c h cc cpp hpp cs swift php lua "
    + "ex exs erl hs ml clj sh sql yaml yml toml ini json csv xml graphql proto").split(" ")
)

export interface TextFile {
  /** Relative to the folder, with `/`. */
  readonly path: string
  readonly bytes: Uint8Array
}

export class NoFiles
  extends Schema.TaggedError<NoFiles>()("NoFiles", { folder: Schema.String, detail: Schema.String })
{
  override get message() {
    return `${this.folder}: ${this.detail}. Name a folder with text files: make demo DIR=path`
  }
}

/** The text files of the folder, in the order of their paths. */
export const textFiles = Effect.fn("demo.textFiles")(function*(folder: string) {
  const fail = (detail: string) => new NoFiles({ folder, detail })
  const names = yield* Effect.tryPromise({
    try: async () => {
      if (!(await Fs.stat(folder)).isDirectory()) throw new Error("not a folder")
      const known = await fromGit(folder)
      return known.length > 0 ? known : await walk(folder)
    },
    catch: (error) => fail(error instanceof Error ? error.message : String(error))
  })
  const files = yield* Effect.promise(() => largest(folder, names.filter(isTextName)))
  if (files.length < 2) {
    return yield* fail(`${files.length} text files of 1 to ${maxBytes} bytes, the demo compares two or more`)
  }
  return files
})

const isTextName = (name: string) => extensions.has(Path.extname(name).slice(1).toLowerCase())

const fromGit = async (folder: string): Promise<Array<string>> => {
  try {
    const args = ["-C", folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    const { stdout } = await promisify(execFile)("git", args, { maxBuffer: 64 * 1024 * 1024 })
    return stdout.split("\0").filter((name) => name !== "").slice(0, maxNames)
  } catch {
    // No git, or no repository.
    return []
  }
}

const walk = async (folder: string): Promise<Array<string>> => {
  const names: Array<string> = []
  const folders = [""]
  for (let at = 0; at < folders.length && names.length < maxNames; at++) {
    const entries = await Fs.readdir(Path.join(folder, folders[at]!), { withFileTypes: true }).catch(() => [])
    for (const entry of entries) {
      const name = Path.posix.join(folders[at]!, entry.name)
      if (entry.isFile()) names.push(name)
      else if (entry.isDirectory() && !ignored.has(entry.name) && !entry.name.startsWith(".")) folders.push(name)
    }
  }
  return names
}

const largest = async (folder: string, names: ReadonlyArray<string>): Promise<Array<TextFile>> => {
  const sized: Array<{ readonly path: string; readonly size: number }> = []
  for (const path of names) {
    // Git also names files that were deleted, and links, which may point anywhere.
    const stat = await Fs.lstat(Path.join(folder, path)).catch(() => undefined)
    if (stat?.isFile() === true && stat.size > 0 && stat.size <= maxBytes) sized.push({ path, size: stat.size })
  }
  const chosen = sized.sort((a, b) => b.size - a.size || (a.path < b.path ? -1 : 1)).slice(0, maxFiles)
  const files = await Promise.all(
    chosen.map(async ({ path }): Promise<TextFile> => ({ path, bytes: await Fs.readFile(Path.join(folder, path)) }))
  )
  return files.filter(({ bytes }) => bytes.length <= maxBytes).sort((a, b) => a.path < b.path ? -1 : 1)
}

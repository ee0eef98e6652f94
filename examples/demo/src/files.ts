/**
 * Which files of a folder the demo reads.
 *
 * Asks git first, because git knows what to ignore. Without git it walks the folder, except folders that hold other
 * people's files.
 */
import { Effect, Schema } from "effect"
import { execFile } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import { promisify } from "node:util"

/** Larger files are left out. As base64 in the payload they are a third larger. */
export const maxBytes = 180_000

/** The most files that are read, the largest first. */
export const maxFiles = 48

/** The most names that are checked: a bound for a folder like `/`. */
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

/** Why names in a folder are left out. */
const reasons = {
  otherKind: "of other kinds",
  notAFile: "linked",
  empty: "empty",
  tooLarge: `over ${maxBytes} bytes`,
  unreadable: "unreadable",
  tooMany: `beyond the ${maxFiles} largest`
}

/** How many names were left out, for each reason. */
export type LeftOut = Readonly<Partial<Record<keyof typeof reasons, number>>>

/** What was left out, in words; undefined if nothing was. */
export const describeLeftOut = (leftOut: LeftOut): string | undefined => {
  const parts = Object.entries(reasons).flatMap(([reason, words]) => {
    const count = leftOut[reason as keyof typeof reasons] ?? 0
    return count === 0 ? [] : [`${count.toLocaleString("en")} ${words}`]
  })
  return parts.length === 0 ? undefined : `left out: ${parts.join(", ")}`
}

interface Choice {
  readonly files: ReadonlyArray<TextFile>
  readonly leftOut: LeftOut
}

/** The text files of the folder, sorted by path, and what was left out. */
export const textFiles = Effect.fn("demo.textFiles")(function*(folder: string) {
  const fail = (detail: string) => new NoFiles({ folder, detail })
  const choice = yield* Effect.tryPromise({
    try: async () => {
      if (!(await Fs.stat(folder)).isDirectory()) throw new Error("not a folder")
      const known = await fromGit(folder)
      return largest(folder, known.length > 0 ? known : await walk(folder))
    },
    catch: (error) => fail(error instanceof Error ? error.message : String(error))
  })
  if (choice.files.length < 2) {
    const others = describeLeftOut(choice.leftOut)
    return yield* fail(
      `${choice.files.length} text files of 1 to ${maxBytes} bytes, the demo compares two or more`
        + (others === undefined ? "" : ` (${others})`)
    )
  }
  return choice
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
    const entries = await Fs.readdir(Path.join(folder, folders[at]!), { withFileTypes: true }).catch(
      (error: unknown) => {
        // A subfolder that cannot be read is skipped. If the folder itself cannot be read, the demo ends.
        if (at === 0) throw error
        return []
      }
    )
    for (const entry of entries) {
      const name = Path.posix.join(folders[at]!, entry.name)
      if (!entry.isDirectory()) names.push(name)
      else if (!ignored.has(entry.name) && !entry.name.startsWith(".")) folders.push(name)
    }
  }
  return names
}

const largest = async (folder: string, names: ReadonlyArray<string>): Promise<Choice> => {
  const leftOut: Partial<Record<keyof typeof reasons, number>> = {}
  const leave = (reason: keyof typeof reasons, count = 1) => {
    leftOut[reason] = (leftOut[reason] ?? 0) + count
  }
  const sized: Array<{ readonly path: string; readonly size: number }> = []
  for (const path of names) {
    if (!isTextName(path)) {
      leave("otherKind")
      continue
    }
    // A name that is not UTF-8 cannot be looked up, and git also lists deleted files. Links may point anywhere.
    const stat = await Fs.lstat(Path.join(folder, path)).catch(() => undefined)
    if (stat === undefined) leave("unreadable")
    else if (!stat.isFile()) leave("notAFile")
    else if (stat.size === 0) leave("empty")
    else if (stat.size > maxBytes) leave("tooLarge")
    else sized.push({ path, size: stat.size })
  }
  const readable: Array<TextFile> = []
  for (const { path } of sized.sort((a, b) => b.size - a.size || (a.path < b.path ? -1 : 1))) {
    if (readable.length === maxFiles) {
      leave("tooMany")
      continue
    }
    const bytes = await Fs.readFile(Path.join(folder, path)).catch(() => undefined)
    if (bytes === undefined) leave("unreadable")
    // It has grown since it was checked.
    else if (bytes.length > maxBytes) leave("tooLarge")
    else readable.push({ path, bytes })
  }
  return { files: readable.sort((a, b) => a.path < b.path ? -1 : 1), leftOut }
}

/** Reads folders into a package. Links are followed, as whoever put them there wants it, and everything has a bound. */
import * as fs from "node:fs"
import * as path from "node:path"

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

/** The most files and folders that are read into one package. */
export const maxFiles = 10_000

/** The most bytes that go into one package, before compression. */
export const maxSourceBytes = 200 * 1024 * 1024

/** Whether something stays behind. `name` is its path below the folder; that of a folder ends with a slash. */
export type Leaves = (name: string, file: string) => boolean

/** What has been read for one package so far. */
export class Source {
  readonly files: Record<string, File> = {}
  /** What stayed behind, and why where that is not plain. */
  readonly leftOut: Array<string> = []
  private count = 0
  private bytes = 0
  private readonly title: string
  private readonly fix: string

  /** What is too large is told by `title`, and how to make it smaller by `fix`. */
  constructor(title: string, fix: string) {
    this.title = title
    this.fix = fix
  }

  add(name: string, file: File): void {
    this.count++
    this.bytes += file.content.byteLength
    this.check()
    this.files[name] = file
  }

  /** Adds all files of a folder, below `prefix`. */
  folder(root: string, prefix: string, leaves: Leaves): void {
    const visit = (folder: string, below: string, above: ReadonlyArray<string>): void => {
      this.count++
      this.check()
      for (const entry of fs.readdirSync(folder)) {
        const file = path.join(folder, entry)
        const stat = statOf(file)
        const name = `${below}${entry}${stat?.isDirectory() === true ? "/" : ""}`
        if (leaves(name, file)) this.leftOut.push(name)
        else if (stat === undefined) this.leftOut.push(`${name} (a link to nothing)`)
        else if (stat.isDirectory()) {
          const identity = identityOf(stat)
          if (above.includes(identity)) this.leftOut.push(`${name} (a link to a folder around it)`)
          else visit(file, name, [...above, identity])
        } else if (stat.isFile()) {
          this.bytes += stat.size
          this.check()
          this.bytes -= stat.size
          this.add(`${prefix}${name}`, {
            // A file without a size, of /proc for instance, may have no end.
            content: stat.size === 0 ? new Uint8Array(0) : fs.readFileSync(file),
            mode: (stat.mode & 0o111) === 0 ? 0o644 : 0o755
          })
        } else this.leftOut.push(`${name} (neither a file nor a folder)`)
      }
    }
    visit(root, "", [identityOf(fs.statSync(root))])
  }

  private check(): void {
    if (this.count > maxFiles) throw this.tooLarge(`${maxFiles} files and folders`)
    if (this.bytes > maxSourceBytes) throw this.tooLarge(`${maxSourceBytes} bytes`)
  }

  private tooLarge(limit: string): Error {
    return new Error(`${this.title} has more than ${limit}. ${this.fix}`)
  }
}

const identityOf = (stat: fs.Stats): string => `${stat.dev}:${stat.ino}`

/** What is there, links followed; none for a link to nothing. */
const statOf = (file: string): fs.Stats | undefined => {
  try {
    return fs.statSync(file)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") return undefined
    throw error
  }
}

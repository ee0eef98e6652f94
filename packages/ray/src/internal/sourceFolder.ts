/** Reads folders into a package. Links are followed, because they were put there on purpose. Everything has a bound. */
import { isUtf8 } from "node:buffer"
import * as fs from "node:fs"
import * as path from "node:path"

/**
 * A file of a package.
 *
 * @category models
 */
export interface File {
  /** The file's bytes. */
  readonly content: Uint8Array
  /** The file's Unix permissions. Default 0644. */
  readonly mode?: number
}

/** The most files and folders that are read into one package. */
export const maxFiles = 10_000

/** The most bytes that go into one package, before compression. */
export const maxSourceBytes = 200 * 1024 * 1024

/** A file or folder that was found. */
export interface Entry {
  /** Its path on this machine. */
  readonly file: string
  /** Its path relative to the folder that is read. The name of a folder ends with a slash. */
  readonly name: string
  /**
   * If it was found through a link, the path of the target: relative to the folder that is read if it lies there,
   * otherwise absolute without its first slash.
   */
  readonly target: string | undefined
}

/** Returns whether a file or folder is left out. */
export type Leaves = (entry: Entry) => boolean

/** The files read for one package so far. */
export class Source {
  readonly files: Record<string, File> = {}
  /** What was left out, and why if that is not obvious. */
  readonly leftOut: Array<string> = []
  private count = 0
  private bytes = 0
  private readonly title: string
  private readonly fix: string

  /** `title` names the package in errors, and `fix` says how to make it smaller. */
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

  /** Adds all files of a folder under `prefix`. */
  folder(root: string, prefix: string, leaves: Leaves): void {
    const base = fs.realpathSync(root)
    const visit = (folder: string, below: string, above: ReadonlyArray<string>): void => {
      this.count++
      this.check()
      for (const bytes of this.reading(folder, () => fs.readdirSync(folder, { encoding: "buffer" }))) {
        const plain = `${below}${bytes.toString()}`
        if (!isUtf8(bytes)) {
          this.leftOut.push(`${plain} (its name is not UTF-8)`)
          continue
        }
        const file = path.join(folder, bytes.toString())
        let found: Found | undefined
        try {
          found = find(file, above.at(-1)!)
        } catch (error) {
          if (!leaves({ file, name: plain, target: undefined })) throw this.unreadable(file, error)
          this.leftOut.push(plain)
          continue
        }
        if (found === undefined) {
          this.leftOut.push(leaves({ file, name: plain, target: undefined }) ? plain : `${plain} (a link to nothing)`)
          continue
        }
        const { real, stat } = found
        const slash = stat.isDirectory() ? "/" : ""
        const name = `${plain}${slash}`
        if (stat.isDirectory() && above.some((one) => isAround(real, one))) {
          this.leftOut.push(`${name} (a link to a folder around it)`)
          continue
        }
        const place = `${isAround(base, real) ? path.relative(base, real) : real.slice(1)}${slash}`
        if (leaves({ file, name, target: place === name ? undefined : place })) this.leftOut.push(name)
        else if (stat.isDirectory()) visit(file, name, [...above, real])
        else if (stat.isFile()) {
          this.bytes += stat.size
          this.check()
          this.bytes -= stat.size
          this.add(`${prefix}${name}`, {
            // A file without a size, for instance in /proc, may have no end.
            content: stat.size === 0 ? new Uint8Array(0) : this.reading(file, () => fs.readFileSync(file)),
            mode: (stat.mode & 0o111) === 0 ? 0o644 : 0o755
          })
        } else this.leftOut.push(`${name} (neither a file nor a folder)`)
      }
    }
    visit(root, "", [base])
  }

  private reading<A>(file: string, read: () => A): A {
    try {
      return read()
    } catch (error) {
      throw this.unreadable(file, error)
    }
  }

  private unreadable(file: string, error: unknown): Error {
    return new Error(`${file} cannot be read: ${error instanceof Error ? error.message : String(error)}. ${this.fix}`)
  }

  private check(): void {
    if (this.count > maxFiles) throw this.tooLarge(`${maxFiles} files and folders`)
    if (this.bytes > maxSourceBytes) throw this.tooLarge(`${maxSourceBytes} bytes`)
  }

  private tooLarge(limit: string): Error {
    return new Error(`${this.title} has more than ${limit}. ${this.fix}`)
  }
}

interface Found {
  /** The path without links. */
  readonly real: string
  readonly stat: fs.Stats
}

/**
 * Finds a file or folder, following links, in a folder whose real path is `folder`; undefined for a link to nothing.
 */
const find = (file: string, folder: string): Found | undefined => {
  try {
    const stat = fs.lstatSync(file)
    if (!stat.isSymbolicLink()) return { real: path.join(folder, path.basename(file)), stat }
    const real = fs.realpathSync(file)
    return { real, stat: fs.statSync(real) }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ELOOP") return undefined
    throw error
  }
}

/** Whether a folder is the other one, or contains it. */
const isAround = (folder: string, other: string): boolean =>
  `${other}${path.sep}`.startsWith(folder.endsWith(path.sep) ? folder : `${folder}${path.sep}`)

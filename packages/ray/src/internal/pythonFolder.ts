/** Decides which files of a Python folder travel. */
import * as fs from "node:fs"
import * as path from "node:path"
import { ignoring, leaving } from "./secretFiles.ts"
import { Source } from "./sourceFolder.ts"

/**
 * The file in the Python folder with patterns as in `.gitignore`. They follow the built-in ones, so `!` includes a file
 * again.
 */
export const ignoreFile = ".effect-ray-ignore"

/** Files that mark virtual environments and caches. */
const marks = ["pyvenv.cfg", "CACHEDIR.TAG"]

/** Files that Python generates everywhere, and the ignore file. The log does not name them. */
const untold = /(?:^|\/)__pycache__\/$|\.py[cod]$|^\.effect-ray-ignore$/

export interface PythonFolder {
  /** The files that travel. */
  readonly source: Source
  /** The names that were left out and may be missed, sorted. */
  readonly leftOut: ReadonlyArray<string>
}

export const readPythonFolder = (folder: string): PythonFolder => {
  const source = new Source(
    "the Python folder",
    `What hosts do not need is left out by patterns in its ${ignoreFile}, as in .gitignore.`
  )
  const rules = ignoring()
  const own = path.join(folder, ignoreFile)
  if (fs.existsSync(own)) rules.add(fs.readFileSync(own, "utf8"))
  const leaves = leaving(rules)
  source.folder(folder, "", (entry) => {
    if (leaves(entry)) return true
    const { file, name } = entry
    return name.endsWith("/") && !rules.test(name).unignored &&
      marks.some((mark) => fs.existsSync(path.join(file, mark)))
  })
  return { source, leftOut: source.leftOut.filter((name) => !untold.test(name)).sort() }
}

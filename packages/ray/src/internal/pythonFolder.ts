/** What of a Python folder travels. */
import * as fs from "node:fs"
import * as path from "node:path"
import { ignoring, leaving } from "./secretFiles.ts"
import { Source } from "./sourceFolder.ts"

/** Beside the Python modules: patterns as in `.gitignore`, after ours, so that `!` takes something in again. */
export const ignoreFile = ".effect-ray-ignore"

/** A file in them says what they are. */
const marks = ["pyvenv.cfg", "CACHEDIR.TAG"]

/** Python makes these wherever it runs, so nobody has to hear of them. */
const untold = /(?:^|\/)__pycache__\/$|\.py[cod]$|^\.effect-ray-ignore$/

export interface PythonFolder {
  readonly source: Source
  /** What a person may miss, in order. */
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

/**
 * The folder for all files that a local head writes.
 *
 * Ray makes its files accessible to every user of the machine, including packages that it is about to run. So all of
 * them are in a folder that no other user can enter. A file in the folder identifies its head: no other folder is ever
 * deleted.
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

const prefix = "er-"

/**
 * The longest path of Ray's folder, in bytes. It contains Unix sockets, whose paths may have 103 bytes on some systems,
 * and Ray adds up to 71.
 */
const maxRayPathLength = 103 - 71

const rayFolder = "ray"

/** The system's temporary folder, or `/tmp` if paths in it would be too long. */
const parent = (): string => {
  const temporary = os.tmpdir()
  return path.join(temporary, `${prefix}123456`, rayFolder).length > maxRayPathLength ? "/tmp" : temporary
}

const markOf = (folder: string): string => path.join(folder, "head")

const mark = (token: string): string => createHash("sha256").update(token).digest("hex")

/** The folder for Ray's sessions. */
export const rayIn = (folder: string): string => path.join(folder, rayFolder)

/** The temporary folder of the head's processes, including handlers. */
export const temporaryIn = (folder: string): string => path.join(folder, "tmp")

/** Makes the folder for the head with this token. */
export const makeHeadFolder = (token: string): string => {
  const folder = fs.mkdtempSync(path.join(parent(), prefix))
  fs.writeFileSync(markOf(folder), mark(token), { mode: 0o600 })
  fs.mkdirSync(temporaryIn(folder), { mode: 0o700 })
  return folder
}

/** Whether the folder belongs to the head with this token and to this user. */
export const isHeadFolder = (folder: string, token: string): boolean => {
  try {
    const stat = fs.lstatSync(folder)
    return path.isAbsolute(folder) && path.basename(folder).startsWith(prefix) && stat.isDirectory()
      && (process.getuid === undefined || (stat.uid === process.getuid() && (stat.mode & 0o077) === 0))
      && fs.readFileSync(markOf(folder), "utf8") === mark(token)
  } catch {
    return false
  }
}

/**
 * Deletes the folder. The file that identifies it is deleted last, so that a failed deletion can be continued later.
 */
export const removeHeadFolder = (folder: string): void => {
  const remove = (name: string): void =>
    // Processes that have just been killed may still be writing.
    fs.rmSync(path.join(folder, name), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  try {
    for (const name of fs.readdirSync(folder)) if (path.join(folder, name) !== markOf(folder)) remove(name)
    remove("")
  } catch {
    // It is gone already, or a process is still writing in it.
  }
}

/**
 * The folder of a local head, with all that it writes.
 *
 * Ray opens what it makes to every user of the machine, packages that it is about to run included, so all of it lies in
 * a folder that nobody else may enter. A file in it says whose it is: only such a folder is ever deleted.
 */
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"

const prefix = "er-"

/** Unix sockets lie below Ray's folder, and their paths may have 103 bytes on some systems. Ray adds up to 71. */
const maxRayPathLength = 103 - 71

const rayFolder = "ray"

/** Where a folder's name is not too long: in the system's temporary folder, if that is not. */
const parent = (): string => {
  const temporary = os.tmpdir()
  return path.join(temporary, `${prefix}123456`, rayFolder).length > maxRayPathLength ? "/tmp" : temporary
}

const markOf = (folder: string): string => path.join(folder, "head")

const mark = (token: string): string => createHash("sha256").update(token).digest("hex")

/** The folder in which Ray makes its sessions. */
export const rayIn = (folder: string): string => path.join(folder, rayFolder)

/** The temporary folder of its processes, handlers included. */
export const temporaryIn = (folder: string): string => path.join(folder, "tmp")

/** Makes the folder of the head with this token. */
export const makeHeadFolder = (token: string): string => {
  const folder = fs.mkdtempSync(path.join(parent(), prefix))
  fs.writeFileSync(markOf(folder), mark(token), { mode: 0o600 })
  fs.mkdirSync(temporaryIn(folder), { mode: 0o700 })
  return folder
}

/** Whether this is the folder of the head with this token, and this user's. */
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

/** Deletes the folder, and the file that says whose it is last: what fails to be deleted is known the next time. */
export const removeHeadFolder = (folder: string): void => {
  const remove = (name: string): void =>
    // What was killed just now may still write.
    fs.rmSync(path.join(folder, name), { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  try {
    for (const name of fs.readdirSync(folder)) if (path.join(folder, name) !== markOf(folder)) remove(name)
    remove("")
  } catch {
    // It is gone already, or somebody still writes in it.
  }
}

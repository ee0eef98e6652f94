/** The users of a local head. Each has a file in the state folder that identifies its process. */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { isAlive, isElsewhere, parseProcessId, processId } from "./processes.ts"
import { usersIn } from "./stateFiles.ts"

/**
 * Adds this process as a user, and returns its file. It counts as one until the file is removed or the process has
 * ended.
 */
export const addUser = (stateFolder: string): string => {
  const folder = usersIn(stateFolder)
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  const name = `${process.pid}-${randomBytes(8).toString("hex")}`
  const [draft, file] = [path.join(stateFolder, name), path.join(folder, name)]
  // The file is written under another name first: a reader that finds it empty would treat its process as ended, and
  // remove it.
  fs.writeFileSync(draft, JSON.stringify(processId(process.pid)), { mode: 0o600, flag: "wx" })
  fs.renameSync(draft, file)
  return file
}

/** How often a keeper that sees a user updates the time of its file, in milliseconds. */
const seenMillis = 60_000

/** How long a user in another container counts without being seen by a keeper, in milliseconds. */
const unseenMillis = 10 * seenMillis

/**
 * Whether there are users left. Removes the files of processes that have ended. Files of another container stay as long
 * as a keeper there sees their users.
 */
export const hasUsers = (stateFolder: string): boolean => {
  const folder = usersIn(stateFolder)
  let found = false
  for (const name of fs.existsSync(folder) ? fs.readdirSync(folder) : []) {
    const file = path.join(folder, name)
    try {
      const user = parseProcessId(fs.readFileSync(file, "utf8"))
      const unseen = Date.now() - fs.statSync(file).mtimeMs
      if (user !== undefined && isAlive(user)) {
        found = true
        if (unseen > seenMillis) fs.utimesSync(file, new Date(), new Date())
      } else if (user === undefined || !isElsewhere(user) || unseen > unseenMillis) fs.rmSync(file, { force: true })
    } catch {
      // Its owner has just removed it.
    }
  }
  return found
}

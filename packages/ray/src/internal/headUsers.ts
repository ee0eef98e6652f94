/** Who uses a local head: one file for each user, in the state folder, that says which process it is. */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { isAlive, isElsewhere, parseProcessId, processId } from "./processes.ts"
import { usersIn } from "./stateFiles.ts"

/** Adds a user. It counts until its file is removed or this process is gone. */
export const addUser = (stateFolder: string): string => {
  const folder = usersIn(stateFolder)
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  const name = `${process.pid}-${randomBytes(8).toString("hex")}`
  const [draft, file] = [path.join(stateFolder, name), path.join(folder, name)]
  // Whoever looked before it says which process it is would take it for one that is gone, and remove it.
  fs.writeFileSync(draft, JSON.stringify(processId(process.pid)), { mode: 0o600, flag: "wx" })
  fs.renameSync(draft, file)
  return file
}

/** A keeper that sees a user says so this often, by the time of its file. */
const seenMillis = 60_000

/** A user of another container that no keeper has seen for so long is gone. */
const unseenMillis = 10 * seenMillis

/**
 * Whether any user is left that can be seen from here. Files of processes that are gone are removed. Those of another
 * container stay as long as somebody there sees their users.
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
      // Its owner removed it just now.
    }
  }
  return found
}

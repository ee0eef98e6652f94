/** Who uses a local head: one file for each user, in the state folder, named for its process. */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import { isAlive, processId } from "./processes.ts"

const folderOf = (stateFolder: string): string => path.join(stateFolder, "users")

/** Adds a user. It counts until its file is removed or this process is gone. */
export const addUser = (stateFolder: string): string => {
  const { pid, started } = processId(process.pid)
  const folder = folderOf(stateFolder)
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  const name = `${pid},${started.replaceAll(/[^\w]/g, "_")},${randomBytes(4).toString("hex")}`
  const [draft, file] = [path.join(stateFolder, name), path.join(folder, name)]
  // Whoever looked before it says when this process started would take it for one that is gone, and remove it.
  fs.writeFileSync(draft, started)
  fs.renameSync(draft, file)
  return file
}

/** Whether any user is left. Files of processes that are gone are removed. */
export const hasUsers = (stateFolder: string): boolean => {
  const folder = folderOf(stateFolder)
  let found = false
  for (const name of fs.existsSync(folder) ? fs.readdirSync(folder) : []) {
    const file = path.join(folder, name)
    try {
      if (isAlive({ pid: Number(name.split(",")[0]), started: fs.readFileSync(file, "utf8") })) found = true
      else fs.rmSync(file, { force: true })
    } catch {
      // Its owner removed it just now.
    }
  }
  return found
}

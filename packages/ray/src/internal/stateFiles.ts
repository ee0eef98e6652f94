/** The state folder and its files, which several processes read and write. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as fs from "node:fs"
import * as path from "node:path"
import { isAlive, isElsewhere, parseProcessId, processId } from "./processes.ts"

/** So long the lock of a process that cannot be seen from here, in another container, is taken for held. */
const unseenLockMillis = 5 * 60_000

/**
 * Makes a folder for this user alone, or makes one of this user's so. Throws what is wrong with it: who else may write in it
 * says what is run and what is deleted.
 */
export const claimFolder = (folder: string): void => {
  if (!fs.existsSync(folder)) {
    fs.mkdirSync(path.dirname(folder), { recursive: true })
    fs.mkdirSync(folder, { mode: 0o700 })
  }
  const stat = fs.lstatSync(folder)
  if (stat.isSymbolicLink()) throw new Error("it is a link")
  if (!stat.isDirectory()) throw new Error("it is no folder")
  const user = process.getuid?.()
  if (user === undefined) return
  if (stat.uid !== user) throw new Error(`it belongs to another user (${stat.uid})`)
  if ((stat.mode & 0o777) !== 0o700) fs.chmodSync(folder, 0o700)
}

/** Throws when something else lies where a file or folder of ours would. */
export const checkEntry = (folder: string, name: string, kind: "file" | "folder"): void => {
  const stat = fs.lstatSync(path.join(folder, name), { throwIfNoEntry: false })
  if (stat !== undefined && !(kind === "file" ? stat.isFile() : stat.isDirectory())) {
    throw new Error(`its ${name} is no ${kind}`)
  }
}

/** Writes a file that only this user may read, in one step. */
export const writePrivately = (file: string, text: string): void => {
  const draft = `${file}.${process.pid}`
  fs.rmSync(draft, { force: true })
  fs.writeFileSync(draft, text, { mode: 0o600, flag: "wx" })
  fs.renameSync(draft, file)
}

/** Takes the lock by creating its file; the lock of a process that is gone is nobody's. */
const tryLock = (file: string): boolean => {
  const draft = `${file}.${process.pid}`
  fs.writeFileSync(draft, JSON.stringify(processId(process.pid)), { mode: 0o600 })
  try {
    // A link appears with its content, where a file that is opened and then written would be empty in between.
    fs.linkSync(draft, file)
    return true
  } catch {
    if (!isHeld(file)) fs.rmSync(file, { force: true })
    return false
  } finally {
    fs.rmSync(draft, { force: true })
  }
}

const isHeld = (file: string): boolean => {
  try {
    const holder = parseProcessId(fs.readFileSync(file, "utf8"))
    if (holder === undefined) return false
    return isAlive(holder) || (isElsewhere(holder) && Date.now() - fs.statSync(file).mtimeMs < unseenLockMillis)
  } catch {
    return false
  }
}

/**
 * Runs the effect while no other process does. Waiting for that is as interruptible as the caller is: the finalizer of a
 * fiber that was interrupted waits too.
 */
export const whileLocked = <A, E, R>(file: string, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.acquireUseRelease(
      restore(Effect.repeat(Effect.sync(() => tryLock(file)), {
        until: (locked) => locked,
        schedule: Schedule.spaced("100 millis")
      })),
      () => restore(effect),
      () => Effect.sync(() => fs.rmSync(file, { force: true }))
    )
  )

/** Reads and writes the state folder and its files, which several processes share. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as fs from "node:fs"
import * as path from "node:path"
import { isAlive, isElsewhere, parseProcessId, type ProcessId, processId } from "./processes.ts"

/**
 * How long the lock of a process in another container counts as held, in milliseconds: whether that process is running
 * is not visible here.
 */
const unseenLockMillis = 5 * 60_000

/**
 * Makes a folder that only this user can access, or restricts an existing one of this user's. Throws if another user
 * may have written in it: its files decide what is run and what is deleted, and a link in it would redirect what is
 * written.
 */
export const claimFolder = (folder: string): void => {
  if (!fs.existsSync(folder)) {
    fs.mkdirSync(path.dirname(folder), { recursive: true })
    fs.mkdirSync(folder, { mode: 0o700 })
  }
  const stat = fs.lstatSync(folder)
  if (stat.isSymbolicLink()) throw new Error("it is a link")
  if (!stat.isDirectory()) throw new Error("it is not a folder")
  const user = process.getuid?.()
  if (user !== undefined) {
    if (stat.uid !== user) throw new Error(`it belongs to another user (${stat.uid})`)
    // Restricting it now would not reveal what others have put into it.
    if ((stat.mode & 0o022) !== 0) {
      throw new Error(
        `other users may write in it (its mode is ${
          (stat.mode & 0o777).toString(8)
        }). If nothing in it is theirs, close it `
          + "with chmod 700"
      )
    }
    if ((stat.mode & 0o777) !== 0o700) fs.chmodSync(folder, 0o700)
  }
  checkEntries(folder, user, fs.readdirSync(folder))
  const users = usersIn(folder)
  if (fs.existsSync(users)) checkEntries(folder, user, fs.readdirSync(users).map((name) => path.join("users", name)))
}

/** The folder with the users of a head. */
export const usersIn = (folder: string): string => path.join(folder, "users")

/** Throws unless each entry is a file or folder that belongs to this user. */
const checkEntries = (folder: string, user: number | undefined, names: ReadonlyArray<string>): void => {
  for (const name of names) {
    const stat = fs.lstatSync(path.join(folder, name), { throwIfNoEntry: false })
    // Another process may have removed its draft.
    if (stat === undefined) continue
    if (!stat.isFile() && !stat.isDirectory()) throw new Error(`its ${name} is neither a file nor a folder`)
    if (user !== undefined && stat.uid !== user) {
      throw new Error(`its ${name} belongs to another user (${stat.uid})`)
    }
  }
}

/** Opens a new file that only this user can read. An old file of that name is removed, not overwritten. */
export const createPrivately = (file: string): number => {
  fs.rmSync(file, { force: true })
  return fs.openSync(file, "wx", 0o600)
}

/** Writes a draft beside a file, which the draft then replaces. */
const draftOf = (file: string, text: string): string => {
  const draft = `${file}.${process.pid}`
  const opened = createPrivately(draft)
  try {
    fs.writeFileSync(opened, text)
  } finally {
    fs.closeSync(opened)
  }
  return draft
}

/** Writes a file that only this user can read, in one step. */
export const writePrivately = (file: string, text: string): void => fs.renameSync(draftOf(file, text), file)

/** Takes the lock by creating its file. Removes the lock of a process that has ended. */
const tryLock = (file: string): boolean => {
  const draft = draftOf(file, JSON.stringify(processId(process.pid)))
  try {
    // A link has its content from the start. A file that is opened and then written would be empty in between.
    fs.linkSync(draft, file)
    return true
  } catch {
    if (holderOf(file) === undefined) fs.rmSync(file, { force: true })
    return false
  } finally {
    fs.rmSync(draft, { force: true })
  }
}

/** Returns the process that holds the lock; undefined if it has ended. */
const holderOf = (file: string): ProcessId | undefined => {
  try {
    const holder = parseProcessId(fs.readFileSync(file, "utf8"))
    if (holder === undefined) return undefined
    const isFresh = isElsewhere(holder) && Date.now() - fs.statSync(file).mtimeMs < unseenLockMillis
    return isAlive(holder) || isFresh ? holder : undefined
  } catch {
    return undefined
  }
}

/** Another process has held the lock for longer than the patience. */
export class Held extends Schema.TaggedError<Held>("@effect-ray/ray/Held")("Held", {
  detail: Schema.String
}) {}

const describeHolder = (file: string): string => {
  const holder = holderOf(file)
  const who = holder === undefined ? "another process" : `process ${holder.pid}`
  return `${who} is starting or stopping it, says ${file}`
}

const tryMillis = 100

/** After this time the log says what the process waits for, in milliseconds. */
const silentMillis = 3_000

/**
 * Runs the effect while no other process does. Fails with `Held` if another process keeps the lock for longer than the
 * patience. The wait is interruptible if the caller is, so the finalizer of an interrupted fiber waits too.
 */
export const whileLocked = <A, E, R>(
  file: string,
  patience: Duration.Duration,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | Held, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.acquireUseRelease(
      Effect.gen(function*() {
        for (let waited = 0; !tryLock(file); waited += tryMillis) {
          if (waited >= Duration.toMillis(patience)) return yield* new Held({ detail: describeHolder(file) })
          if (waited === silentMillis) yield* Effect.logWarning(`waiting for the local Ray: ${describeHolder(file)}`)
          yield* restore(Effect.sleep(tryMillis))
        }
      }),
      () => restore(effect),
      () => Effect.sync(() => fs.rmSync(file, { force: true }))
    )
  )

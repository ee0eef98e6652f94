/** Files of the state folder that several processes read and write. */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import * as fs from "node:fs"
import { isAlive, type ProcessId, processId } from "./processes.ts"

/** Writes a file that only this user may read, in one step. */
export const writePrivately = (file: string, text: string): void => {
  const draft = `${file}.${process.pid}`
  fs.writeFileSync(draft, text, { mode: 0o600 })
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
    const holder: ProcessId = JSON.parse(fs.readFileSync(file, "utf8"))
    return isAlive(holder)
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

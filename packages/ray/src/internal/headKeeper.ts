/**
 * The process that keeps a local head: it starts Ray, and ends it when it has no users left.
 *
 * It is a separate process so that the head ends even if its users are killed, and continues for the others if the one
 * that started it exits. It leads the head's process group. It receives SIGTERM when the last user has left.
 */
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import { removeHeadFolder } from "./headFolder.ts"
import { hasUsers } from "./headUsers.ts"
import { commandsOf, membersOf, signal } from "./processes.ts"

/** The keeper's orders, which it receives as JSON in its only argument. */
export interface Keep {
  /** The command that starts Ray. */
  readonly ray: string
  /** The arguments of that command. */
  readonly args: ReadonlyArray<string>
  /** The state folder, which lists the users. */
  readonly stateFolder: string
  /** The record of the head. Removed before the head ends, so that no process finds it any more. */
  readonly record: string
  /** The head's folder. Removed when the head has ended. */
  readonly folder: string
  /** How long Ray may take to end after SIGTERM before it is killed, in milliseconds. */
  readonly stopMillis: number
}

/** How long a head without users continues, in milliseconds. A user that was killed may be started again at once. */
const graceMillis = 5_000

const lookMillis = 250

/**
 * While a process has this in its command line, workers may be running. The other processes of a head only keep
 * records.
 */
const raylet = "/raylet/raylet "

const keep = (given: Keep): void => {
  let unusedSince: number | undefined
  let stopping = false

  const child = spawn(given.ray, given.args, { stdio: ["ignore", "inherit", "inherit"] })
  child.on("error", (error) => {
    console.error(error.message)
    process.exitCode = 1
    end()
  })
  child.on("exit", () => end())

  /** Removes the record, but only if it is this head's: a process in another container may have replaced it. */
  const forget = (): void => {
    try {
      if (fs.readFileSync(given.record, "utf8").includes(JSON.stringify(given.folder))) fs.rmSync(given.record)
    } catch {
      // There is no record.
    }
  }

  const end = (): void => {
    clearInterval(timer)
    forget()
    for (const { pid } of membersOf(process.pid)) if (pid !== process.pid) signal(pid, "SIGKILL")
    removeHeadFolder(given.folder)
    // The whole group, including this process.
    signal(-process.pid, "SIGKILL")
  }

  const stop = (): void => {
    if (stopping) return
    stopping = true
    clearInterval(timer)
    forget()
    child.kill("SIGTERM")
    const givesUpAt = performance.now() + given.stopMillis
    setInterval(() => {
      if (performance.now() > givesUpAt) return end()
      if (!commandsOf(process.pid).some((line) => line.includes(raylet))) end()
    }, lookMillis)
  }

  const timer = setInterval(() => {
    if (hasUsers(given.stateFolder)) unusedSince = undefined
    else if (performance.now() - (unusedSince ??= performance.now()) > graceMillis) stop()
  }, lookMillis)

  process.on("SIGTERM", stop)
  process.on("SIGINT", stop)
  process.on("SIGHUP", () => {})
}

keep(JSON.parse(process.argv[2]!))

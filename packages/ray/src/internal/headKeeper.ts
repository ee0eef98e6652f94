/**
 * The process that keeps a local head: it starts Ray, and ends it when nobody uses it any more.
 *
 * It is a process of its own so that a head goes also when its users are killed, and stays when the one that started it
 * goes while others use it. It leads the head's process group. SIGTERM means that the last user said goodbye.
 */
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import { removeHeadFolder } from "./headFolder.ts"
import { hasUsers } from "./headUsers.ts"
import { commandsOf, membersOf, signal } from "./processes.ts"

/** What a keeper is told, as JSON in its only argument. */
export interface Keep {
  readonly ray: string
  readonly args: ReadonlyArray<string>
  readonly stateFolder: string
  /** Removed before the head ends, so that nobody finds it any more. */
  readonly record: string
  /** Removed with the head. */
  readonly folder: string
  readonly stopMillis: number
}

/** A user that is killed may come back at once. */
const graceMillis = 5_000

const lookMillis = 250

/** As long as a command line holds this, workers may be running; the rest of a head only keeps books. */
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

  /** The record of this head: a process in another container may have put its own in its place. */
  const forget = (): void => {
    try {
      if (fs.readFileSync(given.record, "utf8").includes(JSON.stringify(given.folder))) fs.rmSync(given.record)
    } catch {
      // There is none.
    }
  }

  const end = (): void => {
    clearInterval(timer)
    forget()
    for (const { pid } of membersOf(process.pid)) if (pid !== process.pid) signal(pid, "SIGKILL")
    removeHeadFolder(given.folder)
    // The whole group, this process included.
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

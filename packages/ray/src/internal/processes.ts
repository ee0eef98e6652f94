/** Processes by number and start, so that a number given to another process later is not mistaken for the first. */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"

export interface ProcessId {
  readonly pid: number
  /** Opaque: equal for the same process. */
  readonly started: string
}

const startOf = (pid: number): string | undefined => {
  if (process.platform !== "linux") {
    const found = spawnSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" })
    return found.stdout.trim() === "" ? undefined : found.stdout.trim()
  }
  try {
    // The name in parentheses may itself hold spaces and parentheses. Fields 3, 20 and 22 of the line are read.
    const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")
    const [state, threads, started] = [fields[0], Number(fields[17]), fields[19]]
    // Its first thread may have ended before the others, which still hold its files and sockets.
    return state === "Z" && threads <= 1 ? undefined : started
  } catch {
    return undefined
  }
}

export const processId = (pid: number): ProcessId => ({ pid, started: startOf(pid) ?? "gone" })

export const isAlive = (id: ProcessId): boolean => startOf(id.pid) === id.started

/** Sends a signal; a negative number means a group. False when there is nobody to send it to. */
export const signal = (pid: number, name: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}

/** The command lines of a group's living processes; none where there is no `ps` to ask. */
export const commandsOf = (group: number): ReadonlyArray<string> | undefined => {
  const found = spawnSync("ps", ["-A", "-ww", "-o", "pgid=,stat=,args="], { encoding: "utf8" })
  if (found.status !== 0) return undefined
  return found.stdout.split("\n").flatMap((line) => {
    const match = /^\s*(\d+)\s+(\S+)\s+(.*)$/.exec(line)
    // `l`: it has other threads, and lives until they have ended.
    return match === null || Number(match[1]) !== group || /^Z[^l]*$/.test(match[2]!) ? [] : [match[3]!]
  })
}

/** Whether any process of a group lives. One that has ended and was not collected by its parent does not. */
export const hasMembers = (group: number): boolean => signal(-group, 0) && commandsOf(group)?.length !== 0

/**
 * Identifies processes by number, start, boot and namespace. A number that another process gets later, after a reboot
 * or in another container is then not mistaken for the first.
 */
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"

export interface ProcessId {
  /** The number of the process. */
  readonly pid: number
  /** When it started. Opaque: only comparable within one boot and namespace. */
  readonly started: string
  /** The id of the machine's boot. Empty if the system does not report it; `started` is then a date. */
  readonly boot: string
  /** The namespace of process numbers: each container has its own. Empty if the system does not report it. */
  readonly namespace: string
}

const startOf = (pid: number): string | undefined => {
  if (process.platform !== "linux") {
    const found = spawnSync("ps", ["-o", "lstart=", "-p", String(pid)], { encoding: "utf8" })
    return found.stdout.trim() === "" ? undefined : found.stdout.trim()
  }
  const stat = statOf(pid)
  // The first thread may have ended before the others, which still hold files and sockets.
  return stat === undefined || (stat.state === "Z" && stat.threads <= 1) ? undefined : stat.started
}

interface Stat {
  readonly state: string
  readonly group: number
  readonly threads: number
  readonly started: string
}

const statOf = (pid: number): Stat | undefined => {
  try {
    // The name in parentheses may contain spaces and parentheses. Fields 3, 5, 20 and 22 of the line are used.
    const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")
    return { state: fields[0]!, group: Number(fields[2]), threads: Number(fields[17]), started: fields[19]! }
  } catch {
    return undefined
  }
}

const orEmpty = (read: () => string): string => {
  try {
    return read().trim()
  } catch {
    return ""
  }
}

const boot = orEmpty(() => fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8"))
const namespace = orEmpty(() => fs.readlinkSync("/proc/self/ns/pid"))

export const processId = (pid: number): ProcessId => ({ pid, started: startOf(pid) ?? "gone", boot, namespace })

/** Whether the process, if it is still running, has the same number here. */
export const isHere = (id: ProcessId): boolean => id.boot === boot && id.namespace === namespace

/** Whether the process is known to be running. */
export const isAlive = (id: ProcessId): boolean => isHere(id) && startOf(id.pid) === id.started

/** Whether the process may be running where its number cannot be seen: in another container, or outside this one. */
export const isElsewhere = (id: ProcessId): boolean => id.boot === boot && id.namespace !== namespace

/** Parses an identity from a file; undefined for any other text. */
export const parseProcessId = (text: string): ProcessId | undefined => {
  try {
    const { boot, namespace, pid, started } = JSON.parse(text)
    const known = Number.isSafeInteger(pid) && pid > 0
      && [started, boot, namespace].every((field) => typeof field === "string") && started !== ""
    return known ? { pid, started, boot, namespace } : undefined
  } catch {
    return undefined
  }
}

/**
 * Sends a signal; a negative number means a group. Returns false if there is no such process. The numbers -1, 0 and 1
 * mean all processes, the own group and the first process, so no signal is ever sent to them.
 */
export const signal = (pid: number, name: NodeJS.Signals | 0): boolean => {
  if (!Number.isSafeInteger(pid) || Math.abs(pid) <= 1) return false
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}

/** Returns the command line of a process; empty if it is not visible. */
export const commandOf = (pid: number): string =>
  process.platform === "linux"
    ? orEmpty(() => fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " "))
    : spawnSync("ps", ["-ww", "-o", "args=", "-p", String(pid)], { encoding: "utf8" }).stdout.trim()

interface Member {
  readonly pid: number
  readonly command: string
}

/**
 * Returns the running processes of a group. A process that has ended but was not collected by its parent is not
 * running.
 */
export const membersOf = (group: number): ReadonlyArray<Member> => {
  if (process.platform !== "linux") {
    const found = spawnSync("ps", ["-A", "-ww", "-o", "pid=,pgid=,stat=,args="], { encoding: "utf8" })
    return found.stdout.split("\n").flatMap((line) => {
      const [, pid, of, stat, command] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? []
      return Number(of) === group && !stat!.startsWith("Z") ? [{ pid: Number(pid), command: command! }] : []
    })
  }
  return fs.readdirSync("/proc").flatMap((name) => {
    const pid = Number(name)
    if (!Number.isInteger(pid) || statOf(pid)?.group !== group || startOf(pid) === undefined) return []
    return [{ pid, command: commandOf(pid) }]
  })
}

/** Returns the command lines of a group's running processes. */
export const commandsOf = (group: number): ReadonlyArray<string> => membersOf(group).map(({ command }) => command)

/** Whether any process of a group is running. */
export const hasMembers = (group: number): boolean => signal(-group, 0) && membersOf(group).length > 0

/**
 * Kills a group if one of its processes has these words in its command line, and this process is not in the group.
 * Returns whether it did. The number of a group stays taken as long as it has a member, so all its processes belong to
 * the same group.
 */
export const killGroup = (group: number, words: string): boolean => {
  const members = membersOf(group)
  const ours = members.some(({ pid }) => pid === process.pid || pid === process.ppid)
  return !ours && members.some(({ command }) => command.includes(words)) && signal(-group, "SIGKILL")
}

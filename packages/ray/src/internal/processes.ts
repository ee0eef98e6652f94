/** Processes by number and start, so that a number given to another process later is not mistaken for the first. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
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
    // The name in parentheses may itself hold spaces and parentheses. Field 3 is the state, field 22 the start.
    const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").replace(/^.*\) /s, "").split(" ")
    return fields[0] === "Z" ? undefined : fields[19]
  } catch {
    return undefined
  }
}

export const processId = (pid: number): ProcessId => ({ pid, started: startOf(pid) ?? "gone" })

export const isAlive = (id: ProcessId): boolean => startOf(id.pid) === id.started

export const same = (a: ProcessId, b: ProcessId): boolean => a.pid === b.pid && a.started === b.started

const signal = (pid: number, name: NodeJS.Signals | 0): boolean => {
  try {
    return process.kill(pid, name)
  } catch {
    return false
  }
}

const until = (condition: () => boolean, limit: Duration.Duration): Effect.Effect<boolean> =>
  Effect.sync(condition).pipe(
    Effect.repeat({ until: (holds) => holds, schedule: Schedule.spaced("100 millis") }),
    Effect.as(true),
    Effect.timeoutOrElse({ duration: limit, orElse: () => Effect.succeed(false) })
  )

/** The command lines of a group's living processes; none where there is no `ps` to ask. */
const commandsOf = (group: number): ReadonlyArray<string> | undefined => {
  const found = spawnSync("ps", ["-A", "-ww", "-o", "pgid=,stat=,args="], { encoding: "utf8" })
  if (found.status !== 0) return undefined
  return found.stdout.split("\n").flatMap((line) => {
    const match = /^\s*(\d+)\s+(\S+)\s+(.*)$/.exec(line)
    return match === null || Number(match[1]) !== group || match[2]!.startsWith("Z") ? [] : [match[3]!]
  })
}

/**
 * Asks the leader of a process group to end, waits, and kills what is left of the group.
 *
 * The wait is over early once no command line holds `essential`: what is left then has nothing to lose.
 */
export const endGroup = (leader: ProcessId, essential: string, limit: Duration.Duration): Effect.Effect<void> =>
  Effect.gen(function*() {
    if (isAlive(leader)) {
      signal(leader.pid, "SIGTERM")
      const isOver = () =>
        !isAlive(leader) || commandsOf(leader.pid)?.some((line) => line.includes(essential)) === false
      yield* until(isOver, limit)
    }
    // The number of a group stays taken as long as it has a member, so this meets nobody else.
    if (signal(-leader.pid, "SIGKILL")) yield* until(() => !signal(-leader.pid, 0), Duration.seconds(5))
  })

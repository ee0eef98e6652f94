/** Measures the memory of all processes below a process, by kind. Linux only: it reads `/proc`. */
import * as fs from "node:fs"

/** The kinds of processes, by command line; the first match counts. */
const kinds: ReadonlyArray<readonly [kind: string, command: RegExp]> = [
  ["worker", /effect-ray\.js worker/],
  ["gateway", /-m effect_ray_gateway/],
  ["node host", /host\.mjs/],
  ["python host", /^ray::HostActor/],
  ["postgres", /postgres/],
  ["gcs", /gcs_server/],
  ["raylet", /raylet\/raylet /],
  ["dashboard", /dashboard/i]
]

const read = (file: string): string => {
  try {
    return fs.readFileSync(file, "utf8")
  } catch {
    // It has ended.
    return ""
  }
}

/** The resident bytes of the processes below the root, summed by kind. */
export const residentBytes = (root: number): ReadonlyMap<string, number> => {
  const parents = new Map<number, number>()
  for (const name of fs.readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue
    const stat = read(`/proc/${name}/stat`)
    if (stat !== "") parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]))
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid)
    return parent !== undefined && (parent === root || isBelow(parent))
  }
  const sums = new Map<string, number>([["app", process.memoryUsage.rss()]])
  for (const pid of parents.keys()) {
    if (!isBelow(pid)) continue
    const command = read(`/proc/${pid}/cmdline`).replaceAll("\u0000", " ")
    const kind = kinds.find(([, pattern]) => pattern.test(command))?.[0]
    const pages = Number(read(`/proc/${pid}/statm`).split(" ")[1])
    if (kind !== undefined && pages > 0) sums.set(kind, (sums.get(kind) ?? 0) + pages * pageBytes)
  }
  return sums
}

const pageBytes = 4_096

/** How many files a folder contains, and how many bytes. */
export const sizeOf = (folder: string): { readonly files: number; readonly bytes: number } => {
  let files = 0
  let bytes = 0
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    try {
      bytes += fs.statSync(`${entry.parentPath}/${entry.name}`).size
      files++
    } catch {
      // It is gone.
    }
  }
  return { files, bytes }
}

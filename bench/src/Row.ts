/**
 * One measured row: our figure beside a peer's, from the same run on the same machine.
 */
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { fileURLToPath } from "node:url"

export interface Row {
  readonly name: string
  readonly ours: number
  readonly peer: number
  readonly peerName: string
  /** `ours / peer`. */
  readonly ratio: number
  readonly higherIsBetter: boolean
  readonly unit: string
}

/** What the ratio should reach: at least or at most, depending on `higherIsBetter`. */
export const goals: Readonly<Record<string, number>> = {
  drain: 1,
  "idle-latency": 1,
  "pool-p50": 0.3,
  "pool-throughput": 15,
  "ray-drain": 7
}

const results = fileURLToPath(new URL("../results/", import.meta.url))

/** Makes a row from rounds that were measured in turns: the median of each side. */
export const make = (options: {
  readonly name: string
  readonly ours: ReadonlyArray<number>
  readonly peer: ReadonlyArray<number>
  readonly peerName: string
  readonly higherIsBetter: boolean
  readonly unit: string
}): Row => {
  const ours = round(median(options.ours))
  const peer = round(median(options.peer))
  const { higherIsBetter, name, peerName, unit } = options
  return { name, ours, peer, peerName, ratio: round(ours / peer), higherIsBetter, unit }
}

/** Prints a round to stderr. */
export const progress = (name: string, n: number, of: number, ours: number, peer: number): Effect.Effect<void> =>
  Effect.sync(() => {
    console.error(`  ${name} ${n}/${of}: ${round(ours)} beside ${round(peer)}, ratio ${round(ours / peer)}`)
  })

export const median = (values: ReadonlyArray<number>): number => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** Rounds to four significant digits, more than a noisy machine can distinguish. */
export const round = (value: number): number => Number(value.toPrecision(4))

/** Prints the row and writes it to `results/<name>.json`. */
export const report = (row: Row): Effect.Effect<void> =>
  Effect.sync(() => {
    fs.mkdirSync(results, { recursive: true })
    fs.writeFileSync(`${results}${row.name}.json`, `${JSON.stringify(row, undefined, 2)}\n`)
    console.log(describe(row))
  })

const describe = (row: Row): string =>
  `${row.name}: ${row.ours} ${row.unit}, ${row.peerName} ${row.peer} ${row.unit}, ratio ${row.ratio}${beside(row)}`

/** The goal of the row, if it has one. */
const beside = (row: Row): string => {
  const goal = goals[row.name]
  if (goal === undefined) return ""
  const met = row.higherIsBetter ? row.ratio >= goal : row.ratio <= goal
  return ` (goal ${row.higherIsBetter ? "≥" : "≤"} ${goal}: ${met ? "met" : "missed"})`
}

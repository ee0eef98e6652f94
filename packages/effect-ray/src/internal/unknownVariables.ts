/** Variables that look like settings but are not, mostly misspelled ones, so that their users are told. */
import * as Effect from "effect/Effect"
import * as Settings from "../Settings.ts"

const prefix = "EFFECT_RAY_"

/** The table's variables, and those that are read where Ray starts and runs. */
const known = [
  ...Settings.keys.map((key) => Settings.table[key].env).filter((name) => name.startsWith(prefix)),
  "EFFECT_RAY_PYTHON",
  "EFFECT_RAY_NODE"
]

/** How many letters must be inserted, removed or changed to turn one text into the other. */
const distance = (from: string, to: string): number => {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column)
  for (let at = 1; at <= from.length; at++) {
    const next = [at]
    for (let column = 1; column <= to.length; column++) {
      const change = row[column - 1]! + (from[at - 1] === to[column - 1] ? 0 : 1)
      next.push(Math.min(row[column]! + 1, next[column - 1]! + 1, change))
    }
    row = next
  }
  return row[to.length]!
}

/** Each unknown name, with the nearest known one. */
export const find = (
  names: ReadonlyArray<string>
): ReadonlyArray<{ readonly name: string; readonly nearest: string }> =>
  names.filter((name) => name.startsWith(prefix) && !known.includes(name)).map((name) => ({
    name,
    nearest: known.reduce((best, other) => distance(name, other) < distance(name, best) ? other : best)
  }))

/** A warning instead of a failure: another version of effect-ray may know the name. */
export const tell: Effect.Effect<void> = Effect.suspend(() =>
  Effect.forEach(
    find(Object.keys(process.env)),
    ({ name, nearest }) =>
      Effect.logWarning(`${name} is not a setting of this version and is ignored. The nearest is ${nearest}.`),
    { discard: true }
  )
)

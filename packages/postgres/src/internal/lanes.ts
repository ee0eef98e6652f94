/**
 * Computes and notes lanes, by which supervisors claim.
 *
 * A lane's id is computed from its queue and task, so an enqueue inside the app's transaction needs no lookup and locks
 * nothing but its own row. The `lanes` table is for people, and is filled outside transactions.
 */
import type { Lane } from "@effect-ray/core/Broker"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { createHash } from "node:crypto"
import { arrays, type Store } from "./store.ts"

const ids = new Map<string, bigint>()

/** The most ids remembered, because queue names may come from users. */
const maxRemembered = 10_000

/**
 * 64 bits of a hash. The chance that any two share an id is 1 in 37 million for a million lanes, 1 in 37 for a billion.
 */
export const laneId = ({ queue, task }: Lane): bigint => {
  const name = `${queue.length}:${queue}${task}`
  let id = ids.get(name)
  if (id === undefined) {
    id = createHash("sha256").update(name).digest().readBigInt64BE(0)
    if (ids.size >= maxRemembered) ids.clear()
    ids.set(name, id)
  }
  return id
}

/** Notes lanes for people to see. A process writes each lane once. */
export const makeLaneBook = (store: Store) => {
  const { s } = store
  const known = new Set<bigint>()
  return (lanes: Iterable<Lane>): Effect.Effect<void, SqlError> =>
    Effect.suspend(() => {
      const fresh = new Map<bigint, Lane>()
      for (const lane of lanes) {
        const id = laneId(lane)
        if (!known.has(id)) fresh.set(id, lane)
      }
      if (fresh.size === 0) return Effect.void
      const sorted = [...fresh].sort(([a], [b]) => a < b ? -1 : 1)
      const note = store.beside((sql) =>
        sql`
          SELECT ${s}.note_lanes(
            ${arrays.int8(sorted.map(([id]) => id))},
            ${arrays.text(sorted.map(([, lane]) => lane.queue))},
            ${arrays.text(sorted.map(([, lane]) => lane.task))}
          )
        `
      )
      return Effect.map(note, () => {
        if (known.size >= maxRemembered) known.clear()
        for (const id of fresh.keys()) known.add(id)
      })
    })
}

export type LaneBook = ReturnType<typeof makeLaneBook>

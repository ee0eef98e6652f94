/**
 * Where claims begin to search.
 *
 * Claimed entries stay in the index, dead, until a vacuum can remove them: for a minute after a burst, and for as long
 * as an old snapshot is open. So a process remembers, for each lane and priority, up to where everything has been
 * taken, and begins there. Now and then it searches from the start, for what was committed late or came back.
 */
import { nil } from "./store.ts"

/** Everything before it has been taken. */
export interface Floor {
  /** A time by the store's clock, in seconds. */
  readonly seconds: number
  readonly id: string
}

export interface Pair {
  readonly lane: bigint
  readonly priority: number
  readonly floor: Floor
}

/** What a claim returns about a row that it took. */
export interface Taken {
  readonly id: string
  readonly lane: bigint
  readonly priority: number
  readonly run_seconds: number
}

const priorities = Array.from({ length: 10 }, (_, priority) => priority)

const bottom: Floor = { seconds: -Infinity, id: nil }

/** How far a floor stays behind the clock, in seconds, because commits need not come in the order of their times. */
const slack = 1

/** The longest time without a search from the start, in milliseconds. */
const maxInterval = 2_000

/** Searches from the start may take at most one part in this many of the time. */
const parts = 20

export type Floors = ReturnType<typeof makeFloors>

export const makeFloors = () => {
  const floors = new Map<bigint, Array<Floor | undefined>>()
  let era = 0
  let looked = -Infinity
  let cost = 0

  const set = (lane: bigint, priority: number, floor: Floor): void => {
    const ofLane = floors.get(lane) ?? []
    const old = ofLane[priority]
    if (old !== undefined && old.seconds > floor.seconds) return
    ofLane[priority] = floor
    floors.set(lane, ofLane)
  }

  const clear = (): void => {
    era++
    floors.clear()
  }

  return {
    /** Something older may be due again: search from the start. */
    clear,

    /**
     * Starts again when it is time. `empty`: a search found nothing, so it is time as soon as a search is affordable.
     */
    begin: (empty: boolean): boolean => {
      const since = performance.now() - looked
      if (floors.size > 0 && (since <= cost * parts || (!empty && since <= maxInterval))) return false
      clear()
      return true
    },

    pairs: (lanes: ReadonlyArray<bigint>): ReadonlyArray<Pair> =>
      lanes.flatMap((lane) =>
        priorities.map((priority) => ({ lane, priority, floor: floors.get(lane)?.[priority] ?? bottom }))
      ),

    /** Distinguishes claims sent before `clear` from later ones. */
    era: (): number => era,

    /**
     * Raises the floors after a search. Rows come oldest first within lane and priority. `all`: these are all the rows,
     * so no lane has anything left that is older than a moment.
     */
    raise: (look: {
      readonly era: number
      readonly lanes: ReadonlyArray<bigint>
      readonly taken: ReadonlyArray<Taken>
      readonly all: boolean
      readonly fromBottom: boolean
      /** By the process's clock, in milliseconds. */
      readonly began: number
      /** By the store's clock, in seconds. */
      readonly clock: number
    }): void => {
      if (look.fromBottom) {
        looked = performance.now()
        cost = looked - look.began
      }
      if (look.era !== era) return
      const newest = look.clock - slack
      for (const { priority, id, lane, run_seconds } of look.taken) {
        set(lane, priority, run_seconds < newest ? { seconds: run_seconds, id } : { seconds: newest, id: nil })
      }
      if (!look.all) return
      for (const lane of look.lanes) {
        for (const priority of priorities) set(lane, priority, { seconds: newest, id: nil })
      }
    }
  }
}

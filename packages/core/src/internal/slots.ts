/**
 * What a shift has in hand: what waits for a slot, runs, or runs alone, and how much more is worth claiming.
 *
 * An entry is admitted, taken to be started, and ended; or it is withdrawn before it starts.
 */
import * as Duration from "effect/Duration"
import type * as Broker from "../Broker.ts"
import type * as Definition from "../Definition.ts"
import { type Entry, isSuspect, type Share } from "./entry.ts"
import * as Shares from "./shares.ts"

/** The most executions that one claim takes. */
export const maxClaim = 500

/** A prefetched execution goes back to its queue if it has not got a slot within this time. */
export const maxPrefetchAgeMillis = 1_000

/** How long others may go before a suspect that waits to run alone. After that nothing starts until it has run. */
export const maxSuspectPatience = Duration.seconds(30)

/** What to claim now. */
export interface Wanted {
  readonly limit: number
  /** The lanes that there is room for, with the most to take from each. */
  readonly lanes: ReadonlyArray<Broker.ClaimLane>
}

export const nothing: Wanted = { limit: 0, lanes: [] }

export type Slots = ReturnType<typeof makeSlots>

export const makeSlots = (options: {
  readonly shares: ReadonlyArray<Share>
  /** How many attempts may run at once. */
  readonly concurrency: number
  /** Whether the runner gives a suspect of the task a process of its own. */
  readonly isolatesSuspects: (task: Definition.Any) => boolean
  /** The process's clock, in milliseconds. */
  readonly now: () => number
}) => {
  const { concurrency, isolatesSuspects, now, shares } = options
  /** Entries with a slot. */
  const running = new Set<Entry>()
  /** Entries at pools without a process. They have no slot until their handlers begin. */
  const tries = new Set<Entry>()
  /** Entries that keep running although the broker has recorded their end. Their slots stay taken. */
  const abandoned = new Set<Entry>()
  /** A suspect that runs alone: nothing else starts until it has ended, or its end is recorded. */
  let alone: Entry | undefined

  const inFlight = (): number => running.size + tries.size

  /** Whether nothing runs, except what may never end: nobody waits for that. */
  const isIdle = (): boolean => inFlight() === abandoned.size

  /** Whether the entry must run alone, so that its next loss is its own. Some runners ensure that themselves. */
  const mustBeAlone = (entry: Entry): boolean => isSuspect(entry) && !isolatesSuspects(entry.task)

  /** Whether others have gone before a suspect for long enough. */
  const isImpatient = (entry: Entry): boolean => now() - entry.claimedAtMillis >= Duration.toMillis(maxSuspectPatience)

  /** Whether nothing starts because a suspect runs, or has waited long enough to do so. */
  const isHeldBySuspect = (): boolean =>
    alone !== undefined ||
    shares.some(({ backlog }) => backlog.some((entry) => mustBeAlone(entry) && isImpatient(entry)))

  /** The first of a share that may start now. Others go before a suspect that waits to run alone, for a while. */
  const firstOf = ({ backlog }: Share): Entry | undefined => {
    for (const entry of backlog) {
      if (!mustBeAlone(entry) || isIdle()) return entry
      if (isImpatient(entry)) return undefined
    }
    return undefined
  }

  /** The first of all shares, as far as their pools allow. */
  const first = (): Entry | undefined => {
    const time = now()
    let best: Entry | undefined
    for (const share of shares) {
      if (share.backlog.length === 0 || !Shares.mayStart(share, time)) continue
      const entry = firstOf(share)
      if (entry !== undefined && (best === undefined || entry.order < best.order)) best = entry
    }
    return best
  }

  const withdraw = (entry: Entry): void => {
    const { backlog } = entry.share
    const index = backlog.indexOf(entry)
    if (index >= 0) backlog.splice(index, 1)
  }

  const begin = (entry: Entry): void => {
    if (tries.delete(entry)) running.add(entry)
  }

  return {
    inFlight,

    isFull: (): boolean => running.size >= concurrency,

    /** Whether every slot is held by an attempt that did not stop. */
    isStuck: (): boolean => abandoned.size >= concurrency,

    abandoned: (): number => abandoned.size,

    isAbandoned: (entry: Entry): boolean => abandoned.has(entry),

    /** All entries that wait for a slot. */
    waiting: (): ReadonlyArray<Entry> => shares.flatMap(({ backlog }) => backlog),

    /** Adds a claimed entry, which waits for a slot. */
    admit: (entry: Entry): void => void entry.share.backlog.push(entry),

    /** Removes a waiting entry. */
    withdraw,

    /** Takes the next entry to start, if there is a slot and an entry that may use it. */
    take: (): Entry | undefined => {
      if (running.size >= concurrency || alone !== undefined) return undefined
      const entry = first()
      if (entry === undefined) return undefined
      withdraw(entry)
      if (mustBeAlone(entry)) alone = entry
      entry.share.running++ // A try ends before its handler begins, or gets a slot then: pools without a process must not fill the slots.
      ;(Shares.hasProcess(entry.share) ? running : tries).add(entry)
      return entry
    },

    /** The entry's handler has begun. */
    begin,

    /** The entry has ended. */
    end: (entry: Entry): void => {
      entry.share.running--
      abandoned.delete(entry)
      if (alone === entry) alone = undefined
      if (running.delete(entry)) Shares.noteEnd(entry.share, now())
      else tries.delete(entry)
    },

    /** The broker has recorded the entry's end, but it did not stop. Others cannot wait for what may never end. */
    abandon: (entry: Entry): void => {
      begin(entry)
      abandoned.add(entry)
      if (alone === entry) alone = undefined
    },

    /** Entries that came too early: a pool without a process is tried with one attempt at a time. */
    surplus: (): ReadonlyArray<Entry> => {
      const time = now()
      return shares.flatMap((share) => {
        const early = Shares.surplus(share, time)
        return early === 0 ? [] : share.backlog.slice(-early)
      })
    },

    /** Entries that have waited too long: another worker may have a slot for them. A suspect keeps its turn. */
    stale: (): ReadonlyArray<Entry> => {
      const time = now()
      const held = running.size >= concurrency || isHeldBySuspect()
      return shares.flatMap((share) =>
        share.backlog.length === 0 || (!held && Shares.mayStart(share, time)) ?
          [] :
          share.backlog.filter((entry) => time - entry.claimedAtMillis > maxPrefetchAgeMillis && !mustBeAlone(entry))
      )
    },

    /** How many executions to claim now, and from which lanes. */
    wanted: (isPaused: (lane: Broker.Lane) => boolean): Wanted => {
      if (isHeldBySuspect()) return nothing
      const time = now()
      let ahead = 0
      let waiting = 0
      for (const share of shares) {
        ahead += Shares.prefetch(share, time)
        waiting += share.backlog.length
      }
      const window = concurrency + Math.min(Shares.maxPrefetch, ahead)
      const free = Math.min(maxClaim, window - running.size - waiting)
      if (free <= 0) return nothing
      const lanes: Array<Broker.ClaimLane> = []
      let limit = 0
      for (const share of shares) {
        const most = Math.min(window, Shares.most(share, time))
        const room = Math.min(free, most - share.running - share.backlog.length)
        // Under load, claiming waits until a claim is worth its round trip. Meanwhile the backlog fills the slots.
        if (room < (share.backlog.length === 0 ? 1 : Math.ceil(most / 4))) continue
        const open = share.lanes.filter((lane) => !isPaused(lane))
        if (open.length === 0) continue
        for (const lane of open) lanes.push({ ...lane, limit: room })
        limit += room
      }
      return lanes.length === 0 ? nothing : { limit: Math.min(free, limit), lanes }
    },

    /** When the next try of a share that is held back becomes due; infinite if there will be none. */
    nextTry: (): number => {
      const time = now()
      return shares.reduce(
        (next, { hold, pool, running }) =>
          hold === undefined || hold.nextTry <= time || running > 0 || pool.closed !== undefined
            ? next
            : Math.min(next, hold.nextTry),
        Number.POSITIVE_INFINITY
      )
    }
  }
}

/**
 * The order of a workflow run.
 *
 * A journal is a list of entries, each with a key. The code of a run asks by key: for the result of a step, for the end of a
 * timer, for a message. It gets its answers in the order of the list, one at a time, each after all fibers of the run have
 * come to rest. This is so when a result is new and when the run is replayed, so the fibers always interleave in the same way.
 */

export interface JournalEntry {
  /** Unique in the journal, for instance `step:charge/1`. */
  readonly key: string
  /** `run`: the code of the run asked for it first. `outside`: it arrived, such as a signal, and may never be asked for. */
  readonly source: "run" | "outside"
  /** JSON text. */
  readonly value: string
  /** When it was recorded, in milliseconds since 1970, by the store's clock. */
  readonly atMillis: number
}

export type Answer =
  | { readonly _tag: "Recorded"; readonly entry: JournalEntry }
  /** Nothing is recorded. The caller does the work, records it, and asks again. */
  | { readonly _tag: "Live" }
  /** The journal goes on without this entry. Only an optional ask gets this answer. */
  | { readonly _tag: "Absent" }
  /** The run leaves memory. */
  | { readonly _tag: "Evicted" }

/** The code does not ask for what its journal holds next: it is not the code that wrote the journal. */
export interface Unasked {
  readonly _tag: "Unasked"
  /** From 0. */
  readonly position: number
  readonly recorded: string
  readonly asked: ReadonlyArray<string>
}

/** `Given`: an answer was given, so the fibers have to come to rest again. `Idle`: nothing is left to give. */
export type Delivery = { readonly _tag: "Given" } | { readonly _tag: "Idle" } | Unasked

/**
 * What an ask accepts besides its entry. `recorded`: nothing. `live`: to do the work that makes it. `optional`: that, or that
 * the journal goes on without it.
 */
export type Accepts = "recorded" | "live" | "optional"

interface Ask {
  readonly accepts: Accepts
  readonly give: (answer: Answer) => void
}

const given: Delivery = { _tag: "Given" }
const idle: Delivery = { _tag: "Idle" }
const live: Answer = { _tag: "Live" }
const absent: Answer = { _tag: "Absent" }
const evicted: Answer = { _tag: "Evicted" }

export type Journal = ReturnType<typeof makeJournal>

/**
 * `observe` is called with each entry when it is delivered, whether or not the code has asked for it. It returns whether
 * it gave something to the code.
 */
export const makeJournal = (
  recorded: ReadonlyArray<JournalEntry>,
  observe: (entry: JournalEntry) => boolean = () => false
) => {
  const entries = [...recorded]
  const known = new Set(entries.map(({ key }) => key))
  const delivered = new Map<string, JournalEntry>()
  /** Asks without an answer, by key, in the order in which the keys were asked for. */
  const asks = new Map<string, Set<Ask>>()
  /** Every key that was asked for, also if the ask was withdrawn. */
  const issued = new Set<string>()
  /** Keys whose work is being done. */
  const running = new Set<string>()
  let cursor = 0
  let isEvicted = false

  const isReplaying = (): boolean => cursor < entries.length

  const goLive = (key: string, ask: Ask): void => {
    running.add(key)
    ask.give(live)
  }

  /** The code waits for something that the journal does not have before its next entry. */
  const giveAbsent = (): boolean => {
    for (const [key, waiting] of asks) {
      const ask = known.has(key) ? undefined : [...waiting].find(({ accepts }) => accepts === "optional")
      if (ask === undefined) continue
      waiting.delete(ask)
      if (waiting.size === 0) asks.delete(key)
      ask.give(absent)
      return true
    }
    return false
  }

  const isReady = (key: string, ask: Ask): boolean => ask.accepts !== "recorded" && !running.has(key) && !known.has(key)

  return {
    /** How many entries there are, whether delivered or not. */
    length: (): number => entries.length,

    /** How many entries have been delivered. */
    position: (): number => cursor,

    /** The entries that have not been delivered. */
    undelivered: (): ReadonlyArray<JournalEntry> => entries.slice(cursor),

    /** Whether entries have not been delivered. */
    isReplaying,

    /** Whether there is an entry with this key. */
    has: (key: string): boolean => known.has(key),

    /** The entry with this key, if it has been delivered. */
    peek: (key: string): JournalEntry | undefined => delivered.get(key),

    /** The position of an entry, from 0. */
    positionOf: (entry: JournalEntry): number => entries.indexOf(entry),

    /** The keys that are asked for, without an answer yet. */
    asked: (): Iterable<string> => asks.keys(),

    /** How many keys have work that is being done. */
    working: (): number => running.size,

    /** The entries of the run itself that have not been delivered. If its code has ended, it did not ask for them. */
    unasked: (): ReadonlyArray<JournalEntry> => entries.slice(cursor).filter(({ source }) => source === "run"),

    /**
     * Asks for a key. `give` is called once, perhaps before this returns. Several may ask for one key: one of them does the
     * work. Returns a function that withdraws the ask, or ends the work that was begun for it.
     */
    ask: (key: string, accepts: Accepts, give: (answer: Answer) => void): () => void => {
      issued.add(key)
      const entry = delivered.get(key)
      if (entry !== undefined) {
        give({ _tag: "Recorded", entry })
        return () => {}
      }
      if (isEvicted) {
        give(evicted)
        return () => {}
      }
      const ask: Ask = { accepts, give }
      if (!isReplaying() && isReady(key, ask)) {
        goLive(key, ask)
        return () => void running.delete(key)
      }
      const others = asks.get(key) ?? new Set()
      asks.set(key, others.add(ask))
      return () => {
        if (others.delete(ask)) {
          if (others.size === 0 && asks.get(key) === others) asks.delete(key)
        } else running.delete(key)
      }
    },

    /** Appends an entry, to be delivered in its turn. Returns false if there is one with its key: the first one counts. */
    record: (entry: JournalEntry): boolean => {
      if (known.has(entry.key)) return false
      known.add(entry.key)
      entries.push(entry)
      running.delete(entry.key)
      return true
    },

    /** Gives the next answer. Call it when all fibers of the run are at rest. */
    deliver: (): Delivery => {
      while (isReplaying()) {
        const entry = entries[cursor]!
        const waiting = asks.get(entry.key)
        if (waiting === undefined && entry.source === "run" && !issued.has(entry.key)) {
          return giveAbsent()
            ? given
            : { _tag: "Unasked", position: cursor, recorded: entry.key, asked: [...asks.keys()] }
        }
        cursor++
        delivered.set(entry.key, entry)
        const isObserved = observe(entry)
        if (waiting === undefined) {
          if (isObserved) return given
          continue
        }
        asks.delete(entry.key)
        for (const { give } of waiting) give({ _tag: "Recorded", entry })
        return given
      }
      let isGiven = false
      for (const [key, waiting] of asks) {
        const ask = [...waiting].find((ask) => isReady(key, ask))
        if (ask === undefined) continue
        waiting.delete(ask)
        if (waiting.size === 0) asks.delete(key)
        goLive(key, ask)
        isGiven = true
      }
      return isGiven ? given : idle
    },

    /** Ends all asks, those to come included, but for what has been delivered. */
    evict: (): void => {
      isEvicted = true
      for (const waiting of asks.values()) for (const { give } of waiting) give(evicted)
      asks.clear()
    }
  }
}

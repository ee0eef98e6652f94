/**
 * The keys of messages in a journal. Most messages come once, and the first one counts. Signals come any number of times,
 * so they are numbered in the order in which they were read.
 */
import type { JournalEntry } from "./journal.ts"

const signal = "signal:"

/** The key of a signal's messages. */
export const signalKey = (tag: string): string => `${signal}${tag}`

/** The signal that an entry of a journal in memory is, if it is one. */
export const signalOf = (key: string): string | undefined =>
  key.startsWith(signal) ? key.slice(signal.length, key.lastIndexOf("/")) : undefined

/** The key of a message as it is stored. */
export const storedKey = (key: string): string => {
  const tag = signalOf(key)
  return tag === undefined ? key : signalKey(tag)
}

export const makeKeys = () => {
  const counts = new Map<string, number>()

  /** The key in the journal of a message with this key. */
  const of = (key: string): string => {
    if (!key.startsWith(signal)) return key
    const count = counts.get(key) ?? 0
    counts.set(key, count + 1)
    return `${key}/${count}`
  }

  return {
    of,

    /** The entries of a stored journal, with the keys they have in memory, without those that came too late. */
    assign: (stored: ReadonlyArray<JournalEntry>): ReadonlyArray<JournalEntry> => {
      const known = new Set<string>()
      const assigned: Array<JournalEntry> = []
      for (const entry of stored) {
        const key = of(entry.key)
        if (known.has(key)) continue
        known.add(key)
        assigned.push(key === entry.key ? entry : { ...entry, key })
      }
      return assigned
    }
  }
}

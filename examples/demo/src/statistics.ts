/**
 * Counts words in a text: plain functions, used by the `Summarise` task.
 */
import type { Summary } from "./tasks.ts"

/** Words that an adult reads in a minute. */
const wordsPerMinute = 230

/** How many different words of a file are compared with other files. */
export const maxTerms = 150

/** Letters and digits, with apostrophes inside: "isn't" is one word. */
const word = /[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*/gu

export const summarise = (text: string): typeof Summary.Type => {
  const counts = new Map<string, number>()
  let words = 0
  for (const [match] of text.matchAll(word)) {
    const term = match.toLowerCase()
    words++
    counts.set(term, (counts.get(term) ?? 0) + 1)
  }
  const lines = text === "" ? [] : text.replace(/\r?\n$/, "").split(/\r?\n/)
  return {
    lines: lines.length,
    words,
    uniqueWords: counts.size,
    longestLine: lines.reduce((longest, line) => Math.max(longest, line.length), 0),
    readingMinutes: Math.ceil(words / wordsPerMinute),
    terms: Object.fromEntries(mostFrequent(counts))
  }
}

/** Words of one or two letters are left out: longer words say more about a text than "of" does. */
const mostFrequent = (counts: ReadonlyMap<string, number>) =>
  [...counts]
    .filter(([term]) => term.length > 2)
    .sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1))
    .slice(0, maxTerms)

/** The position of the first byte that is not UTF-8; undefined if all bytes are. */
export const firstInvalidByte = (bytes: Uint8Array): number | undefined => {
  if (isText(bytes)) return undefined
  // Finds the longest prefix that is text by halving. Up to three bytes of an incomplete character still count as text.
  let valid = 0
  let invalid = bytes.length
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >>> 1
    if (isText(bytes.subarray(0, middle), true)) valid = middle
    else invalid = middle
  }
  return valid
}

const isText = (bytes: Uint8Array, cut = false): boolean => {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes, { stream: cut })
    return true
  } catch {
    return false
  }
}

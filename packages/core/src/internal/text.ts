/** Properties of texts that matter to the store. */

const encoder = new TextEncoder()

/** The text's bytes in UTF-8, counted only if the text could exceed the limit. */
export const utf8Bytes = (text: string, limit: number): number =>
  text.length * 3 <= limit ? text.length : encoder.encode(text).length

// JSON.stringify writes NUL and lone surrogates as escapes. An even run of backslashes before the u is text, not an
// escape.
const unstorable = /(?:^|[^\\])(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/i

/**
 * Whether a JSON text has an escape of NUL or of half a surrogate pair, which other languages and jsonb do not accept.
 */
export const hasUnstorableEscape = (json: string): boolean => json.includes("\\u") && unstorable.test(json)

/** Cuts a message to a limit and removes what Postgres cannot store. */
export const sanitise = (text: string, maxLength: number): string => {
  // A text that may be stored in a column must never be able to break the failure path.
  const clean = storable(text.slice(0, maxLength + 1))
  return clean.length <= maxLength ? clean : `${storable(clean.slice(0, maxLength - 1))}…`
}

/** The same, but cuts off the beginning. */
export const sanitiseEnd = (text: string, maxLength: number): string => {
  const clean = storable(text.slice(-maxLength - 1))
  return clean.length <= maxLength ? clean : `…${storable(clean.slice(1 - maxLength))}`
}

const storable = (text: string): string => text.replaceAll("\u0000", "\uFFFD").toWellFormed()

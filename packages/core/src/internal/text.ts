/** Facts about JSON text that the store cares about. */

const encoder = new TextEncoder()

/** Bytes of the text in UTF-8, counted only when it could matter. */
export const utf8Bytes = (text: string, limit: number): number =>
  text.length * 3 <= limit ? text.length : encoder.encode(text).length

// JSON.stringify writes NUL and lone surrogates as escapes. An even run of backslashes before the u is text, not an escape.
const unstorable = /(?:^|[^\\])(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/i

/** Whether JSON text holds an escape of NUL or of half a surrogate pair, which other languages and jsonb cannot take. */
export const hasUnstorableEscape = (json: string): boolean => json.includes("\\u") && unstorable.test(json)

/** Cuts a message to a bound and removes what Postgres cannot store. */
export const sanitise = (text: string, maxLength: number): string => {
  // A text that may end up in a column must never be able to make the failure path fail.
  const clean = storable(text.slice(0, maxLength + 1))
  return clean.length <= maxLength ? clean : `${storable(clean.slice(0, maxLength - 1))}…`
}

/** The same, but what is cut off is the beginning. */
export const sanitiseEnd = (text: string, maxLength: number): string => {
  const clean = storable(text.slice(-maxLength - 1))
  return clean.length <= maxLength ? clean : `…${storable(clean.slice(1 - maxLength))}`
}

const storable = (text: string): string => text.replaceAll("\u0000", "\uFFFD").toWellFormed()

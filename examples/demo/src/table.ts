/**
 * Plain text for terminals.
 */

/**
 * File names may contain what a terminal obeys: control characters, and characters that change the writing direction.
 */
export const printable = (text: string): string =>
  text.replaceAll(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`
  )

/** Columns as wide as their widest cell. The first row is the heading. */
export const table = (raw: ReadonlyArray<ReadonlyArray<string>>): string => {
  const rows = raw.map((row) => row.map(printable))
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)))
  const line = (cells: ReadonlyArray<string>) =>
    widths.map((width, column) => (cells[column] ?? "").padEnd(width)).join("  ").trimEnd()
  const [heading = [], ...body] = rows
  return [line(heading), widths.map((width) => "─".repeat(width)).join("  "), ...body.map(line)].join("\n")
}

/** Cuts off the beginning of a text that is too long: the end of a path says more. */
export const shorten = (text: string, width: number): string =>
  text.length <= width ? text : `…${text.slice(text.length - width + 1)}`

export const milliseconds = (millis: number): string =>
  millis < 1000 ? `${Math.round(millis)} ms` : `${(millis / 1000).toFixed(1)} s`

export const count = (n: number, noun: string): string => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`

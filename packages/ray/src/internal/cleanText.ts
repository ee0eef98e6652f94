/** Cleans text that another program wrote, so that it can be shown. */
import { stripVTControlCharacters } from "node:util"

/**
 * Characters that move a terminal's cursor, change the reading direction, or end a line invisibly. Line feeds and tabs
 * are kept.
 */
// oxlint-disable-next-line no-control-regex
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** Removes control characters, and replaces the secret if the text contains it. */
export const cleanText = (text: string, secret = ""): string => {
  const plain = stripVTControlCharacters(text.replaceAll(/\r\n?/g, "\n")).replaceAll(controls, "").toWellFormed()
  return secret === "" ? plain : plain.replaceAll(secret, "<token>")
}

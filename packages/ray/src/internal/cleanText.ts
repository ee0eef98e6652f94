/** Text that another program wrote, made fit to be shown. */
import { stripVTControlCharacters } from "node:util"

/** What moves a terminal's cursor or the reading direction, or ends a line where nobody sees it. Not line ends and tabs. */
// oxlint-disable-next-line no-control-regex
const controls = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g

/** Without control characters, and with the secret, if it is in there, taken out. */
export const cleanText = (text: string, secret = ""): string => {
  const plain = stripVTControlCharacters(text.replaceAll(/\r\n?/g, "\n")).replaceAll(controls, "").toWellFormed()
  return secret === "" ? plain : plain.replaceAll(secret, "<token>")
}

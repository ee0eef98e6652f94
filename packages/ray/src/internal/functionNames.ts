/**
 * Which names of functions a bundle keeps.
 *
 * esbuild keeps a name by a call wherever a function is made. Effect and our own modules make several for each attempt, and those
 * calls took a quarter of a handler's own time. Nobody asks for the names of these, so in their modules a function is left as it
 * is. Classes keep their names everywhere, and all that the user's modules and other packages make.
 */

/** As long as the name of esbuild's own, so that the source map still fits. */
const maxNames = 10
const nameOf = (index: number): string => `__nam${index}`

/** A line before the code of each module. A text of the user's may have such a line too. */
const heading = /^(\/\/ \S.*)$/m

/** In a class it stands in a static block, with `this`. */
const call = /\b__name\((?!this\b)/g

/** Some of the bundle's text, from the line before it, and the module that it is of. None before the first module. */
interface Part {
  readonly file: string | undefined
  text: string
}

type BytesOf = (file: string) => number | undefined

const partsOf = (text: string, bytesOf: BytesOf): ReadonlyArray<Part> => {
  const [first = "", ...rest] = text.split(heading)
  let part: Part = { file: undefined, text: first }
  const parts = [part]
  for (let index = 0; index < rest.length; index += 2) {
    const line = rest[index]!
    const file = Buffer.from(line.slice(3), "latin1").toString()
    const said = line + rest[index + 1]!
    if (bytesOf(file) === undefined) part.text += said
    else parts.push(part = { file, text: said })
  }
  return parts
}

/**
 * The modules whose parts are together as long as esbuild says, beside the lines before them and, of all but the last, a line feed
 * behind. Those of a module are longer where the text of another has such a line.
 */
const wholeModules = (parts: ReadonlyArray<Part>, bytesOf: BytesOf): ReadonlySet<string> => {
  const excess = new Map<string, number>()
  for (const { file, text } of parts) {
    if (file === undefined) continue
    const code = text.length - text.indexOf("\n") - 2
    excess.set(file, (excess.get(file) ?? -bytesOf(file)!) + code)
  }
  return new Set(Array.from(excess).filter(([, bytes]) => bytes === 0 || bytes === -1).map(([file]) => file))
}

/**
 * `isOurs` is asked with the path of a module as esbuild writes it, and `bytesOf` how long the code of that module is, if it is
 * one.
 */
export const dropNames = (bundle: Uint8Array, isOurs: (file: string) => boolean, bytesOf: BytesOf): Uint8Array => {
  // A character for each byte.
  const text = Buffer.from(bundle).toString("latin1")
  const asIs = Array.from({ length: maxNames }, (_, index) => nameOf(index)).find((name) => !text.includes(name))
  const end = text.indexOf("\n")
  if (asIs === undefined || end < 0) return bundle
  const parts = partsOf(text.slice(end), bytesOf)
  const whole = wholeModules(parts, bytesOf)
  const made = parts.map(({ file, text }) =>
    file !== undefined && whole.has(file) && isOurs(file) ? text.replaceAll(call, `${asIs}(`) : text
  )
  return Buffer.from(`${text.slice(0, end)}const ${asIs} = (made) => made;${made.join("")}`, "latin1")
}

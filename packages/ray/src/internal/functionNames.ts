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

/** A line before the code of each module. */
const heading = /^(\/\/ \S.*)$/m

/** In a class it stands in a static block, with `this`. */
const call = /\b__name\((?!this\b)/g

/** `isOurs` is asked with the path of a module as esbuild writes it. */
export const dropNames = (bundle: Uint8Array, isOurs: (file: string) => boolean): Uint8Array => {
  const text = new TextDecoder().decode(bundle)
  const asIs = Array.from({ length: maxNames }, (_, index) => nameOf(index)).find((name) => !text.includes(name))
  const end = text.indexOf("\n")
  if (asIs === undefined || end < 0) return bundle
  const parts = text.slice(end).split(heading)
  let ours = false
  const made = parts.map((part, index) => {
    if (index % 2 === 0) return ours ? part.replaceAll(call, `${asIs}(`) : part
    ours = isOurs(part.slice(3))
    return part
  })
  return new TextEncoder().encode(`${text.slice(0, end)}const ${asIs} = (made) => made;${made.join("")}`)
}

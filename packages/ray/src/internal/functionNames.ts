/**
 * Decides which function names a bundle keeps.
 *
 * esbuild preserves a name with a call wherever a function is made. Effect and this project's modules make several
 * functions for each attempt, and these calls took a quarter of a handler's own time. The names of these functions are
 * not used, so in those modules the calls do nothing. Class names are kept everywhere, and so are all names in the
 * user's modules and other packages.
 */

/** Has the same length as the name that esbuild uses, so that the source map still fits. */
const maxNames = 10
const nameOf = (index: number): string => `__nam${index}`

/** The comment line that esbuild writes before the code of each module. */
const heading = /^(\/\/ \S.*)$/m

/** In a class the call is in a static block and has `this` as its argument. */
const call = /\b__name\((?!this\b)/g

/** Removes the names. `isOurs` receives the path of a module as esbuild writes it. */
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

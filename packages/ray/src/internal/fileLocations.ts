/**
 * Gives every file of a bundle its own location: `import.meta`, `__dirname`, `__filename` and `require.resolve` are
 * those of that file, not of the bundle.
 *
 * The location is where the file would be beside the bundle. No file is there. A package that only reads its location
 * starts. A package that reads files beside it, or starts a thread from one, fails with an error that names the file.
 * If all files had the bundle's location, each would take itself for the main program, and a thread started from it
 * would run the worker again.
 */
import type { Plugin } from "esbuild"
import * as fs from "node:fs"
import * as path from "node:path"

const locationName = "effectRayLocation"

/**
 * Goes into the bundle's banner, where `import.meta` is that of the bundle. `main` is false in all files, because the
 * host is the main program.
 */
export const locationBanner = `import { createRequire as effectRayRequire } from "node:module";`
  + `import { pathToFileURL as effectRayUrl } from "node:url";`
  + `const require = effectRayRequire(import.meta.url);`
  + `const ${locationName}Of = (location) => {`
  + ` const filename = import.meta.dirname + location, { href: url } = effectRayUrl(filename);`
  + ` const resolve = (name) => /^\\.\\.?\\//.test(name) ? new URL(name, url).href : import.meta.resolve(name);`
  + ` const meta = { dirname: filename.slice(0, filename.lastIndexOf("/")), filename, main: false, resolve, url };`
  + ` return { meta, get resolve() { return effectRayRequire(filename).resolve; } }; };`

/** Only applies if a file has not declared these names itself. */
export const locationNames = {
  __dirname: `${locationName}.meta.dirname`,
  __filename: `${locationName}.meta.filename`,
  "import.meta": `${locationName}.meta`,
  "require.resolve": `${locationName}.resolve`
}

/** Whether a file in the bundle uses its location. */
export const asksForLocation = ({ buffer, byteLength, byteOffset }: Uint8Array): boolean =>
  Buffer.from(buffer, byteOffset, byteLength).includes(`${locationName}.`)

const asking = /\b__(?:dirname|filename)\b|\bimport\s*\.\s*meta\b|\brequire\s*\.\s*resolve\b/

const placeOf = (file: string, from: string): string => {
  const parts = path.relative(from, file).split(path.sep)
  const last = parts.lastIndexOf("node_modules")
  return parts.slice(Math.max(last, 0)).filter((part) => part !== "..").map((part) => `/${part}`).join("")
}

const escaped = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&")

/**
 * Gives a location to each of these files that uses it. The location is relative to `from`, the folder of the worker's
 * module.
 */
export const fileLocations = (files: Iterable<string>, from: string): Plugin => ({
  name: "effect-ray-own-locations",
  setup(build) {
    const found = Array.from(files).filter((file) =>
      /\.[cm]?[jt]sx?$/.test(file) && asking.test(fs.readFileSync(file, "utf8"))
    )
    build.onLoad({ filter: new RegExp(`^(?:${found.map(escaped).join("|")})$`) }, (args) => {
      const declared = `const ${locationName} = /* @__PURE__ */ ${locationName}Of(${
        JSON.stringify(placeOf(args.path, from))
      });`
      // Inserted into the first line of code, so that all lines keep their numbers.
      const [, first = "", rest = ""] = /^(#!.*\n)?([^]*)$/.exec(fs.readFileSync(args.path, "utf8"))!
      return { contents: `${first}${declared}${rest}`, loader: "default" }
    })
  }
})

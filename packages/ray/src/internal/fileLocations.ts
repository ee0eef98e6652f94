/**
 * Gives every file of a bundle a location of its own: `import.meta`, `__dirname`, `__filename` and `require.resolve` are then
 * those of that file instead of the bundle's.
 *
 * The location is where the file would lie beside the bundle. Nothing lies there, so a package that only asks starts, and
 * one that reads files of its own, or starts a thread from one, fails with an error that names it. With the bundle's own
 * name, every file would take itself for the main program, and a thread started from it would run the worker once more.
 */
import type { Plugin } from "esbuild"
import * as fs from "node:fs"
import * as path from "node:path"

const locationName = "effectRayLocation"

/** In the bundle's banner, where `import.meta` is the bundle's own. `main` is false for all, as the host is the program. */
export const locationBanner = `import { createRequire as effectRayRequire } from "node:module";`
  + `import { pathToFileURL as effectRayUrl } from "node:url";`
  + `const require = effectRayRequire(import.meta.url);`
  + `const ${locationName}Of = (location) => {`
  + ` const filename = import.meta.dirname + location, { href: url } = effectRayUrl(filename);`
  + ` const resolve = (name) => /^\\.\\.?\\//.test(name) ? new URL(name, url).href : import.meta.resolve(name);`
  + ` const meta = { dirname: filename.slice(0, filename.lastIndexOf("/")), filename, main: false, resolve, url };`
  + ` return { meta, get resolve() { return effectRayRequire(filename).resolve; } }; };`

/** Applies only where a file has not declared these names itself. */
export const locationNames = {
  __dirname: `${locationName}.meta.dirname`,
  __filename: `${locationName}.meta.filename`,
  "import.meta": `${locationName}.meta`,
  "require.resolve": `${locationName}.resolve`
}

/** Whether anything in a bundle asks for its location. */
export const asksForLocation = ({ buffer, byteLength, byteOffset }: Uint8Array): boolean =>
  Buffer.from(buffer, byteOffset, byteLength).includes(`${locationName}.`)

const asking = /\b__(?:dirname|filename)\b|\bimport\s*\.\s*meta\b|\brequire\s*\.\s*resolve\b/

const placeOf = (file: string, from: string): string => {
  const parts = path.relative(from, file).split(path.sep)
  const last = parts.lastIndexOf("node_modules")
  return parts.slice(Math.max(last, 0)).filter((part) => part !== "..").map((part) => `/${part}`).join("")
}

const escaped = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&")

/** For those of `files` that ask, below or beside the folder of the worker's module. */
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
      // In the first line that is code, so that all lines keep their numbers.
      const [, first = "", rest = ""] = /^(#!.*\n)?([^]*)$/.exec(fs.readFileSync(args.path, "utf8"))!
      return { contents: `${first}${declared}${rest}`, loader: "default" }
    })
  }
})

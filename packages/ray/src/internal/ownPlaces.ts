/**
 * Gives every file of a bundle a place of its own: `import.meta`, `__dirname`, `__filename` and `require.resolve` are then
 * those of that file instead of the bundle's.
 *
 * The place is where the file would lie beside the bundle. Nothing lies there, so a package that only asks starts, and
 * one that reads files of its own, or starts a thread from one, fails with an error that names it. With the bundle's own
 * name, every file would take itself for the main program, and a thread started from it would run the worker once more.
 */
import type { Plugin } from "esbuild"
import * as fs from "node:fs"
import * as path from "node:path"

const placeName = "effectRayPlace"

/** In the bundle's banner, where `import.meta` is the bundle's own. `main` is false for all, as the host is the program. */
export const placeBanner = `import { createRequire as effectRayRequire } from "node:module";`
  + `import { pathToFileURL as effectRayUrl } from "node:url";`
  + `const require = effectRayRequire(import.meta.url);`
  + `const ${placeName}Of = (place) => {`
  + ` const filename = import.meta.dirname + place, { href: url } = effectRayUrl(filename);`
  + ` const resolve = (name) => /^\\.\\.?\\//.test(name) ? new URL(name, url).href : import.meta.resolve(name);`
  + ` const meta = { dirname: filename.slice(0, filename.lastIndexOf("/")), filename, main: false, resolve, url };`
  + ` return { meta, get resolve() { return effectRayRequire(filename).resolve; } }; };`

/** Applies only where a file has not declared these names itself. */
export const placeNames = {
  __dirname: `${placeName}.meta.dirname`,
  __filename: `${placeName}.meta.filename`,
  "import.meta": `${placeName}.meta`,
  "require.resolve": `${placeName}.resolve`
}

/** Whether anything in a bundle asks for its place. */
export const asksForPlace = ({ buffer, byteLength, byteOffset }: Uint8Array): boolean =>
  Buffer.from(buffer, byteOffset, byteLength).includes(`${placeName}.`)

const asking = /\b__(?:dirname|filename)\b|\bimport\s*\.\s*meta\b|\brequire\s*\.\s*resolve\b/

const placeOf = (file: string, from: string): string => {
  const parts = path.relative(from, file).split(path.sep)
  const last = parts.lastIndexOf("node_modules")
  return parts.slice(Math.max(last, 0)).filter((part) => part !== "..").map((part) => `/${part}`).join("")
}

const escaped = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&")

/** For those of `files` that ask, below or beside the folder of the worker's module. */
export const ownPlaces = (files: Iterable<string>, from: string): Plugin => ({
  name: "effect-ray-own-places",
  setup(build) {
    const found = Array.from(files).filter((file) =>
      /\.[cm]?[jt]sx?$/.test(file) && asking.test(fs.readFileSync(file, "utf8"))
    )
    build.onLoad({ filter: new RegExp(`^(?:${found.map(escaped).join("|")})$`) }, (args) => {
      const declared = `const ${placeName} = /* @__PURE__ */ ${placeName}Of(${
        JSON.stringify(placeOf(args.path, from))
      });`
      // In the first line that is code, so that all lines keep their numbers.
      const [, first = "", rest = ""] = /^(#!.*\n)?([^]*)$/.exec(fs.readFileSync(args.path, "utf8"))!
      return { contents: `${first}${declared}${rest}`, loader: "default" }
    })
  }
})

/**
 * Gives files written for CommonJS their `__dirname` and `__filename` in a bundle, which has no such names.
 *
 * What they name is where the file would lie beside the bundle. Nothing lies there, so a package that only asks starts, and
 * one that reads files of its own, or starts a thread from one, fails with an error that names it. The same name for all,
 * the bundle's, would start the worker once more in that thread.
 */
import type { Plugin } from "esbuild"
import * as fs from "node:fs"
import * as path from "node:path"

const asksForPlace = /\b__(?:dirname|filename)\b/

/** Of these files, those that ask. */
export const askingForPlace = (files: Iterable<string>): ReadonlySet<string> => {
  const found = new Set<string>()
  for (const file of files) {
    if (/\.[cm]?[jt]sx?$/.test(file) && fs.existsSync(file) && asksForPlace.test(fs.readFileSync(file, "utf8"))) {
      found.add(file)
    }
  }
  return found
}

/** The bundle's own folder, in its banner. */
export const folderName = "effectRayFolder"

/** Only where a file has not declared Node's names itself, as ES modules do. */
export const placeNames = { __dirname: "effectRayDirname", __filename: "effectRayFilename" }

const placeOf = (file: string, from: string): string => {
  const parts = path.relative(from, file).split(path.sep)
  const last = parts.lastIndexOf("node_modules")
  return parts.slice(Math.max(last, 0)).filter((part) => part !== "..").join("/")
}

const escaped = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, "\\$&")

/** For `files`, below or beside the folder of the worker's module. */
export const ownPlaces = (files: ReadonlySet<string>, from: string): Plugin => ({
  name: "effect-ray-own-places",
  setup(build) {
    build.onLoad({ filter: new RegExp(`^(?:${Array.from(files, escaped).join("|")})$`) }, (args) => {
      const place = placeOf(args.path, from)
      const folder = place.split("/").slice(0, -1).map((part) => `/${part}`).join("")
      const declared = `const ${placeNames.__dirname} = ${folderName} + ${JSON.stringify(folder)}, `
        + `${placeNames.__filename} = ${folderName} + ${JSON.stringify(`/${place}`)};`
      // In the first line that is code, so that all lines keep their numbers.
      const [, first = "", rest = ""] = /^(#!.*\n)?([^]*)$/.exec(fs.readFileSync(args.path, "utf8"))!
      return { contents: `${first}${declared}${rest}`, loader: "default" }
    })
  }
})

/**
 * Keeps modules that are imported only for their side effects, as Node does, even if the nearest `package.json` says
 * that there are none. For installed packages, that statement is believed.
 */
import type { Message, Plugin } from "esbuild"
import * as path from "node:path"

const name = "effect-ray-side-effects"

const keyOf = (importer: string, specifier: string): string => `${importer}\n${specifier}`

/** Returns the imports that esbuild left out of a bundle, according to its warnings. */
export const droppedImports = (warnings: ReadonlyArray<Message>, folder: string): ReadonlySet<string> => {
  const found = new Set<string>()
  for (const { id, location } of warnings) {
    if (id !== "ignored-bare-import" || location === null) continue
    const { column, file, length, lineText } = location
    const quoted = Buffer.from(lineText).subarray(column, column + length).toString()
    found.add(keyOf(path.resolve(folder, file), quoted.slice(1, -1)))
  }
  return found
}

/** Puts a third module between the two, which uses the imported one. */
export const keepImports = (dropped: ReadonlySet<string>): Plugin => ({
  name,
  setup(build) {
    build.onResolve({ filter: /^[./#]/ }, async ({ importer, kind, path, pluginData, resolveDir }) => {
      if (pluginData === name || !dropped.has(keyOf(importer, path))) return undefined
      const found = await build.resolve(path, { importer, kind, resolveDir, pluginData: name })
      return found.errors.length === 0 ? { path: found.path, namespace: name, sideEffects: true } : found
    })
    build.onLoad({ filter: /.*/, namespace: name }, (args) => {
      const file = JSON.stringify(args.path)
      return {
        contents: `import * as kept from ${file}\nexport * from ${file}\nObject.keys(kept)`,
        resolveDir: path.dirname(args.path)
      }
    })
  }
})

/**
 * Decides which imports stay out of a bundle: packages that the worker names, packages with native code, and imports of
 * installed packages that cannot be found.
 */
import type { Plugin } from "esbuild"
import { folderOf, packageName, packageOf } from "./installedPackages.ts"

const name = "effect-ray-outside"

const isTypeScript = (file: string): boolean => /(?<!\.d)\.[cm]?tsx?$/.test(file)

export const outside = (
  options: {
    /** The packages that the worker names. */
    readonly named: ReadonlyArray<string>
    /**
     * The folders of packages with native code. A package may be imported under a name that differs from its folder's.
     */
    readonly native: ReadonlySet<string>
  }
): Plugin => ({
  name,
  setup(build) {
    // There are many relative paths, and only those of native code matter.
    build.onResolve({ filter: /^[^./]|\.node$/ }, async ({ importer, kind, path, pluginData, resolveDir }) => {
      if (pluginData === name) return undefined
      const wanted = packageOf(path)
      const named = wanted !== undefined && options.named.includes(wanted)
      const { errors, path: file } = await build.resolve(path, { importer, kind, resolveDir, pluginData: name })
      if (errors.length > 0) {
        // A package that imports native code that was not built, or a package that is not installed, may work without
        // it, as under Node.
        const optional = path.endsWith(".node") || (folderOf(importer) !== undefined && kind !== "import-statement")
        return named || optional ? { path, external: true } : undefined
      }
      const folder = folderOf(file)
      if (named && folder === undefined && isTypeScript(file)) {
        return {
          errors: [{
            text: `${wanted} is external and TypeScript (${file}), which Node does not run below node_modules. `
              + `Leave it out of Worker.make({ external }), or let it export compiled files.`
          }]
        }
      }
      const native = folder !== undefined && options.native.has(folder)
      return named || native ? { path: wanted === undefined ? packageName(file)! : path, external: true } : undefined
    })
  }
})

/**
 * Decides what stays out of a bundle: the packages that the worker names, those with native code, and what an installed package
 * asks for that is not there.
 */
import type { Plugin } from "esbuild"
import { folderOf, packageName, packageOf } from "./installedPackages.ts"

const name = "effect-ray-outside"

const isTypeScript = (file: string): boolean => /(?<!\.d)\.[cm]?tsx?$/.test(file)

export const outside = (
  options: {
    readonly named: ReadonlyArray<string>
    /** Folders of packages. A package may be imported by another name than its folder's. */
    readonly native: ReadonlySet<string>
  }
): Plugin => ({
  name,
  setup(build) {
    // Relative paths are many, and only native code matters among them.
    build.onResolve({ filter: /^[^./]|\.node$/ }, async ({ importer, kind, path, pluginData, resolveDir }) => {
      if (pluginData === name) return undefined
      const wanted = packageOf(path)
      const named = wanted !== undefined && options.named.includes(wanted)
      const { errors, path: file } = await build.resolve(path, { importer, kind, resolveDir, pluginData: name })
      if (errors.length > 0) {
        // Who asks for native code that was not built, or for a package that is not installed, may do without, as under Node.
        const optional = path.endsWith(".node") || (folderOf(importer) !== undefined && kind !== "import-statement")
        return named || optional ? { path, external: true } : undefined
      }
      const folder = folderOf(file)
      if (named && folder === undefined && isTypeScript(file)) {
        return {
          errors: [{
            text: `${wanted} is external and TypeScript (${file}), which Node does not run below node_modules. `
              + `Leave it out of Worker.make({ external }), or let it export what was compiled.`
          }]
        }
      }
      const native = folder !== undefined && options.native.has(folder)
      return named || native ? { path: wanted === undefined ? packageName(file)! : path, external: true } : undefined
    })
  }
})

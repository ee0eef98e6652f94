/**
 * Writes the SQL files of the schema into a module, so that an app which bundles its server needs no files at run time.
 * With `--check` it writes nothing, and fails when the module is not what the files say.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { root } from "./steps.ts"

const folder = join(root, "packages/postgres/src/schema")
const module = join(folder, "embedded.ts")

const { version } = JSON.parse(readFileSync(join(root, "packages/postgres/package.json"), "utf8")) as {
  readonly version: string
}

const literal = (text: string): string => `\`${text.replaceAll(/[\\`]|\$\{/g, "\\$&")}\``

const functions = readdirSync(folder)
  .filter((file) => file.endsWith(".sql"))
  .sort()
  .map((file) => `  ${file.slice(0, -".sql".length)}: ${literal(readFileSync(join(folder, file), "utf8"))}`)

const text = `/** The SQL files of this folder. Written by \`make format\`: change the files. */

/** The version of this package. */
export const version = "${version}"

/** The text of each function, by its name. */
export const functions: Readonly<Record<string, string>> = {
${functions.join(",\n")}
}
`

if (!process.argv.includes("--check")) {
  writeFileSync(module, text)
} else if (readFileSync(module, "utf8") !== text) {
  console.error(`${module} is not what the SQL files beside it say: run \`make format\``)
  process.exitCode = 1
}

/**
 * Everything in the README and in `docs/` that claims to be TypeScript compiles, and its tests pass.
 *
 * A block that begins with `// name.ts` becomes the file of that name, which later blocks of the same page may import,
 * and so does a block of JSON that names a file. One that is called `name.test.ts` is run here.
 */
import { assert, describe, it } from "@effect/vitest"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../..", import.meta.url))
const project = Path.join(root, "build", "docs")

const pages = ["README.md", "docs", "examples/basics", "examples/demo"]
  .flatMap((path) =>
    path.endsWith(".md")
      ? [path]
      : Fs.readdirSync(Path.join(root, path), { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".md") && !name.includes("node_modules"))
        .map((name) => Path.join(path, name))
  )
  .sort()

const read = (page: string) => Fs.readFileSync(Path.join(root, page), "utf8")

/** Writes the page's blocks into a folder of its own and answers their names. */
const extract = (page: string): ReadonlyArray<string> => {
  const folder = Path.join(project, page.replace(/\.md$/, ""))
  for (const [, name, content] of read(page).matchAll(/^```json (\S+)\n([\s\S]*?)^```$/gm)) {
    Fs.mkdirSync(folder, { recursive: true })
    Fs.writeFileSync(Path.join(folder, name!), content!)
  }
  const blocks = [...read(page).matchAll(/^```(?:ts|typescript)\n([\s\S]*?)^```$/gm)].map((match) => match[1]!)
  return blocks.map((code, index) => {
    const name = /^\/\/ (\S+\.ts)\n/.exec(code)?.[1] ?? `block-${index + 1}.ts`
    const file = Path.join(folder, name)
    Fs.mkdirSync(Path.dirname(file), { recursive: true })
    Fs.writeFileSync(file, code)
    return Path.relative(project, file)
  })
}

const compile = (folder: string, ...options: ReadonlyArray<string>): string => {
  try {
    execFileSync(process.execPath, [Path.join(root, "node_modules/typescript/bin/tsc"), "-p", folder, ...options], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"]
    })
    return ""
  } catch (error) {
    return String((error as { readonly stdout?: unknown }).stdout ?? error)
  }
}

Fs.rmSync(project, { recursive: true, force: true })
const files = pages.flatMap(extract)
const tests = files.filter((file) => file.endsWith(".test.ts"))

describe("the docs", async () => {
  // What is imported here registers its tests here.
  for (const test of tests) await import(Path.join(project, test))

  it("show a test", () => assert.deepStrictEqual(tests, [Path.join("README", "tasks.test.ts")]))

  it("compile wherever they show TypeScript", () => {
    Fs.writeFileSync(
      Path.join(project, "tsconfig.json"),
      JSON.stringify({
        extends: "../../tsconfig.base.json",
        files,
        compilerOptions: {
          composite: false,
          incremental: false,
          declaration: false,
          declarationMap: false,
          noEmit: true,
          rewriteRelativeImportExtensions: false,
          allowImportingTsExtensions: true
        }
      })
    )
    assert.strictEqual(compile(project), "")
  })

  it("show options for the compiler that the complete example needs", () => {
    const folder = Path.join(project, "README")
    assert.isTrue(Fs.existsSync(Path.join(folder, "tsconfig.json")))
    // The packages may not be built here.
    assert.strictEqual(compile(folder, "--customConditions", "@effect-ray/source"), "")
  })

  it("link to files that exist", () => {
    const broken = pages.flatMap((page) =>
      [...read(page).matchAll(/\]\((?!https?:|#|mailto:)([^)#]+)[^)]*\)/g)]
        .map((match) => match[1]!)
        .filter((target) => !Fs.existsSync(Path.join(root, Path.dirname(page), target)))
        .map((target) => `${page}: ${target}`)
    )
    assert.deepStrictEqual(broken, [])
  })
})

import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import { unzipSync } from "fflate"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Bundle from "../src/Bundle.ts"
import { packageName } from "../src/RayCluster.ts"
import { module, tempFolder } from "./support.ts"

const write = (folder: string, files: Record<string, string>) => {
  for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true })
    fs.writeFileSync(path.join(folder, name), content)
  }
}

const core = fileURLToPath(new URL("../../core", import.meta.url))

/** A project with such files, the packages under `node_modules` among them, that imports what this one does. */
const project = Effect.fnUntraced(function*(files: Record<string, string>) {
  const folder = yield* tempFolder
  write(folder, files)
  const modules = path.join(folder, "node_modules")
  fs.mkdirSync(path.join(modules, "@effect-ray"), { recursive: true })
  fs.symlinkSync(core, path.join(modules, "@effect-ray/core"))
  fs.symlinkSync(path.resolve(core, "../../node_modules/effect"), path.join(modules, "effect"))
  return folder
})

/** A worker module that says something when it is loaded. */
const saying = (imports: string, said: string) =>
  `import * as Worker from "@effect-ray/core/Worker"\n${imports}\nconsole.log(${said})\n`
  + `export default Worker.make({ tasks: [] })\n`

/** Unpacks a bundle where nothing else is, as on a host, and answers what it says when it is loaded. */
const load = Effect.fnUntraced(function*(zip: Uint8Array) {
  const folder = yield* tempFolder
  for (const [name, content] of Object.entries(unzipSync(zip))) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true })
    fs.writeFileSync(path.join(folder, name), content)
  }
  const loaded = spawnSync(process.execPath, ["thread.mjs"], { cwd: folder, encoding: "utf8" })
  return { folder, said: loaded.stdout.trim(), wrong: loaded.stderr }
})

const namesIn = (zip: Uint8Array) => Object.keys(unzipSync(zip))

/** The Unix permissions of a zip's files, as Ray reads them. */
const modesIn = (zip: Uint8Array): Record<string, string> => {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength)
  const modes: Record<string, string> = {}
  const end = zip.byteLength - 22
  let at = view.getUint32(end + 16, true)
  for (let entries = view.getUint16(end + 10, true); entries > 0; entries--) {
    const length = view.getUint16(at + 28, true)
    const name = new TextDecoder().decode(zip.subarray(at + 46, at + 46 + length))
    modes[name] = (view.getUint32(at + 38, true) >>> 16 & 0o777).toString(8)
    at += 46 + length + view.getUint16(at + 30, true) + view.getUint16(at + 32, true)
  }
  return modes
}

/** What an effect logs, as the names of what was left out or sent along. */
const logged = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    const logger = Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))
    return Effect.map(Effect.provide(effect, Logger.layer([logger])), (value) => ({ lines, value }))
  })

describe("Bundle", () => {
  it.live("makes the same package of the same worker, from any working directory", () =>
    Effect.gen(function*() {
      const first = yield* Bundle.node(module)
      const from = process.cwd()
      yield* Effect.addFinalizer(() => Effect.sync(() => process.chdir(from)))
      process.chdir("/")
      const second = yield* Bundle.node(module)
      assert.strictEqual(packageName(first), packageName(second))
      assert.deepStrictEqual(Object.keys(unzipSync(first)), ["host.mjs", "thread.mjs"])
    }))

  it.live("needs nothing beside itself to run", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      for (const [name, content] of Object.entries(unzipSync(yield* Bundle.node(module)))) {
        fs.writeFileSync(path.join(folder, name), content)
      }
      const loaded = spawnSync(process.execPath, [
        "-e",
        `import("./thread.mjs").then((m) => console.log(typeof m.default.make))`
      ], {
        cwd: folder,
        encoding: "utf8"
      })
      assert.strictEqual(loaded.stdout.trim(), "function", loaded.stderr)
      // The end of the control pipe ends a host, whatever it was doing.
      assert.strictEqual(spawnSync(process.execPath, ["host.mjs"], { cwd: folder, input: "" }).status, 0)
    }))

  it.live("shows where a module is wrong", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      write(folder, { "worker.ts": `import { absent } from "./absent.ts"\nexport default absent\n` })
      const error = yield* Effect.flip(Bundle.node(path.join(folder, "worker.ts")))
      assert.strictEqual(error.reason._tag, "BundleFailed")
      assert.match(error.message, /worker\.ts:1:\d+/)
      assert.include(error.message, `./absent.ts`)
    }))

  it.live("takes a Python folder without what was made from it", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      write(folder, {
        "ml/train.py": "x = 1\n",
        "ml/data.csv": "1,2\n",
        "ml/__pycache__/train.cpython-311.pyc": "",
        ".venv/lib/huge.py": "",
        "notes.pyc": ""
      })
      const first = yield* Bundle.python(folder)
      assert.deepStrictEqual(Object.keys(unzipSync(first)), ["ml/data.csv", "ml/train.py"])
      fs.utimesSync(path.join(folder, "ml/train.py"), 1, 1)
      assert.strictEqual(packageName(yield* Bundle.python(folder)), packageName(first))
      write(folder, { "ml/train.py": "x = 2\n" })
      assert.notStrictEqual(packageName(yield* Bundle.python(folder)), packageName(first))
    }))

  it.live("takes into a Python package what lies beside its folder, unless the folder has its own", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      write(folder, { "ml.py": "x = 1\n", "own.py": "x = 2\n" })
      const file = (text: string) => ({ content: new TextEncoder().encode(text) })
      const zip = yield* Bundle.python(folder, { "own.py": file("x = 3\n"), "beside.py": file("x = 4\n") })
      const texts = Object.entries(unzipSync(zip)).map(([name, data]) => [name, new TextDecoder().decode(data)])
      assert.deepStrictEqual(Object.fromEntries(texts), {
        "beside.py": "x = 4\n",
        "ml.py": "x = 1\n",
        "own.py": "x = 2\n"
      })
    }))

  it.live("keeps the names of classes and functions, by which tasks may be named", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        "other.ts": `export class Render {}\nexport function go() {}\n`,
        "worker.ts": saying(
          `import * as other from "./other.ts"\nclass Render { static readonly all = [Render.name] }\nfunction go() {}`,
          `JSON.stringify([Render.name, Render.all, other.Render.name, go.name, other.go.name])`
        )
      })
      const { said, wrong } = yield* load(yield* Bundle.node(path.join(folder, "worker.ts")))
      assert.strictEqual(said, `["Render",["Render"],"Render","go","go"]`, wrong)
    }))

  it.live("leaves a text of the user's alone in which a module of Effect seems to begin", () =>
    Effect.gen(function*() {
      const folder = yield* project({})
      const effect = path.relative(folder, fs.realpathSync(path.join(folder, "node_modules/effect")))
      const lines = ["Cause", "None"].map((name) => `// ${effect}/dist/${name}.js`)
      const text = ["", ...lines, "__name(one)", ...lines, ""].join("\n")
      write(folder, {
        "worker.ts": saying(
          `import * as Cause from "effect/Cause"\nconst text = \`${text}\`\nconst go = () => Cause.empty`,
          `JSON.stringify([text, go.name])`
        )
      })
      const { said, wrong } = yield* load(yield* Bundle.node(path.join(folder, "worker.ts")))
      assert.strictEqual(said, JSON.stringify([text, "go"]), wrong)
    }))

  it.live("starts CommonJS packages that ask where they lie, beside modules that declare these names themselves", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        "node_modules/pages/package.json": `{"name":"pages","main":"lib/index.js"}`,
        "node_modules/pages/lib/index.js": `#!/usr/bin/env node
const path = require("path")
exports.here = () => [__dirname, __filename]
exports.read = () => require("fs").readFileSync(path.join(__dirname, "page.html"), "utf8")
`,
        "node_modules/pages/lib/page.html": "<p>",
        "own.mjs":
          `import * as path from "node:path"\nconst __filename = "mine"\nconst __dirname = path.dirname("a/b")\n`
          + `export default [__dirname, __filename]\n`,
        "worker.ts": saying(
          `import pages from "pages"\nimport own from "./own.mjs"\n`
            + `const read = () => { try { return pages.read() } catch (error) { return error.message } }`,
          `JSON.stringify([pages.here(), own, read()])`
        )
      })
      const module = path.join(folder, "worker.ts")
      const bundled = yield* load(yield* Bundle.node(module))
      const [[dirname, filename], own, read] = JSON.parse(bundled.said || bundled.wrong)
      assert.strictEqual(dirname, path.join(bundled.folder, "node_modules/pages/lib"))
      assert.strictEqual(filename, path.join(bundled.folder, "node_modules/pages/lib/index.js"))
      assert.deepStrictEqual(own, ["a", "mine"])
      // The package that misses its files can be seen, and can be named.
      assert.include(read, "node_modules/pages/lib/page.html")
      const external = yield* load(yield* Bundle.node(module, { external: ["pages"] }))
      assert.strictEqual(JSON.parse(external.said || external.wrong)[2], "<p>")
    }))

  it.live("gives every module a place of its own, so that none is the main program or starts the worker again", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        "node_modules/pool/package.json": `{"name":"pool","type":"module","exports":"./lib/index.js"}`,
        "node_modules/pool/lib/index.js": `import * as fs from "node:fs"
import { createRequire } from "node:module"
import { Worker } from "node:worker_threads"
const tried = (run) => { try { return run() } catch (error) { return error.message } }
export const asset = tried(() => fs.readFileSync(new URL("../data.txt", import.meta.url), "utf8"))
export const version = tried(() => createRequire(import.meta.url)("../package.json").version)
export const thread = await new Promise((done) => new Worker(new URL(import.meta.url)).on("error", (error) => done(error.message)).on("exit", done))
export const { dirname } = import.meta
export const sibling = import.meta.resolve("./sibling.js")
`,
        "node_modules/page/package.json": `{"name":"page"}`,
        "node_modules/page/lib/index.js": "",
        "node_modules/page/index.js": `exports.main = require.main === module
exports.resolve = (name) => { try { return require.resolve(name) } catch (error) { return error.message } }`,
        "worker.ts": saying(
          `import { fileURLToPath } from "node:url"\nimport * as pool from "pool"\nimport page from "page"`,
          `JSON.stringify({ pool, main: [import.meta.main, process.argv[1] === fileURLToPath(import.meta.url), page.main], `
            + `resolved: [page.resolve("./lib"), page.resolve("node:fs")] })`
        )
      })
      const { folder: host, said, wrong } = yield* load(yield* Bundle.node(path.join(folder, "worker.ts")))
      assert.strictEqual(said.split("\n").length, 1, said)
      const { main, pool, resolved } = JSON.parse(said || wrong)
      assert.deepStrictEqual(main, [false, false, false])
      assert.strictEqual(pool.dirname, path.join(host, "node_modules/pool/lib"))
      assert.strictEqual(pool.sibling, `file://${host}/node_modules/pool/lib/sibling.js`)
      assert.include(pool.asset, "node_modules/pool/data.txt")
      assert.include(pool.version, "node_modules/pool/lib/index.js")
      assert.include(pool.thread, "node_modules/pool/lib/index.js")
      assert.include(resolved[0], "node_modules/page/index.js")
      assert.strictEqual(resolved[1], "node:fs")
    }))

  it.live("means what Node makes of a module, whatever package.json and tsconfig.json say about it", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        "package.json": `{"type":"module","sideEffects":false}`,
        "tsconfig.json": JSON.stringify({
          compilerOptions: { target: "ES2021", baseUrl: ".", paths: { words: ["./other.ts"] } }
        }),
        "other.ts": `export const word = "other"\n`,
        "node_modules/words/package.json": `{"name":"words"}`,
        "node_modules/words/index.js":
          `Object.defineProperty(exports, "__esModule", { value: true }); exports.word = "words"; exports.default = "none"`,
        "effects/package.json": `{}`,
        "effects/unused.ts": `globalThis.said.push("unused")\nexport const unused = 1\n`,
        "first.ts": `globalThis.said = ["first"]\n`,
        "second.ts":
          `import words from "words"\nimport "./third.ts"\nexport const two = 2\nglobalThis.said.push(words.word)\n`,
        "third.ts": `import { unused } from "./effects/unused.ts"\nglobalThis.said.push("third")\n`,
        "worker.ts": saying(
          `import "./first.ts"\nimport "./second.ts"\nimport { two } from "./second.ts"
class A { constructor() { this.name = "set" } }
class B extends A { name: string | undefined }`,
          `JSON.stringify([globalThis.said, two, new B().name ?? null])`
        )
      })
      const { said, wrong } = yield* load(yield* Bundle.node(path.join(folder, "worker.ts")))
      assert.strictEqual(said, `[["first","unused","third","words"],2,null]`, wrong)
    }))

  const native = {
    "node_modules/stone/package.json": `{"name":"stone","main":"index.js","dependencies":{"loader":"1","gone":"1"}}`,
    "node_modules/stone/binding.gyp": "{}",
    "node_modules/stone/index.js": `module.exports = require("loader")(__dirname)`,
    "node_modules/stone/build/Release/stone.node": "not really",
    "node_modules/loader/package.json": `{"name":"loader"}`,
    "node_modules/loader/index.js": `module.exports = (folder) => require("fs").readFileSync(`
      + `require("path").join(folder, "build/Release/stone.node"), "utf8") + " of loader 1"`
  }

  it.live("lets packages with native code travel as they are installed, with what they depend on", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        ...native,
        // Another version of what the first depends on, and one that finds it by itself.
        "node_modules/pebble/package.json": `{"name":"pebble","napi":{},"dependencies":{"loader":"2"}}`,
        "node_modules/pebble/index.js": `exports.pebble = require("loader")`,
        "node_modules/pebble/node_modules/loader/package.json": `{"name":"loader"}`,
        "node_modules/pebble/node_modules/loader/index.js": `module.exports = "loader 2"`,
        // One for each platform, as npm installs them.
        "node_modules/gem/package.json": `{"name":"gem","optionalDependencies":{"@gem/here":"1","@gem/there":"1"}}`,
        "node_modules/gem/index.js": "module.exports = require(`@gem/${\"here\"}`)",
        "node_modules/@gem/here/package.json": `{"name":"@gem/here","os":["linux"],"cpu":["x64"]}`,
        "node_modules/@gem/here/index.js": `module.exports = "gem"`,
        "worker.ts": saying(
          `import stone from "stone"\nimport { pebble } from "pebble"\nimport gem from "gem"`,
          `JSON.stringify([stone, pebble, gem])`
        )
      })
      const { lines, value: zip } = yield* logged(Bundle.node(path.join(folder, "worker.ts")))
      const { said, wrong } = yield* load(zip)
      assert.strictEqual(said, `["not really of loader 1","loader 2","gem"]`, wrong)
      assert.match(lines.join(), /travel as they are installed here.*gem, pebble, stone/)
      assert.include(namesIn(zip), "node_modules/pebble/node_modules/loader/index.js")
    }))

  it.live("leaves the secrets of a package behind that is only linked", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        "packages/own/package.json": `{"name":"own"}`,
        "packages/own/index.js": `module.exports = require("fs").readFileSync(__dirname + "/words.txt", "utf8")`,
        "packages/own/words.txt": "linked",
        "packages/own/.env": "SECRET=1",
        "packages/own/node_modules/tool/package.json": `{"name":"tool"}`,
        "worker.ts": saying(`import own from "own"`, "own")
      })
      fs.symlinkSync("../packages/own", path.join(folder, "node_modules/own"))
      const zip = yield* Bundle.node(path.join(folder, "worker.ts"), { external: ["own"] })
      const { said, wrong } = yield* load(zip)
      assert.strictEqual(said, "linked", wrong)
      assert.deepStrictEqual(
        namesIn(zip).filter((name) => name.startsWith("node_modules")),
        ["index.js", "package.json", "words.txt"].map((name) => `node_modules/own/${name}`)
      )
    }))

  it.live("goes on without native code that was not built, where the package can do without", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        "node_modules/fast/package.json": `{"name":"fast"}`,
        "node_modules/fast/index.js":
          `try { module.exports = require("./build/Release/fast.node") } catch { module.exports = "slow" }`,
        "node_modules/faster/package.json": `{"name":"faster"}`,
        "node_modules/faster/index.js":
          `let found = "none"\ntry { found = require("sub") } catch {}\nmodule.exports = found`,
        "node_modules/sub/package.json": `{"name":"sub"}`,
        "node_modules/sub/index.js": `module.exports = require("../build/sub.node")`,
        "worker.ts": saying(`import fast from "fast"\nimport faster from "faster"`, `fast + " " + faster`)
      })
      const { said, wrong } = yield* load(yield* Bundle.node(path.join(folder, "worker.ts")))
      assert.strictEqual(said, "slow none", wrong)
    }))

  it.live("finds packages as Node does: by the name that imports them, by its conditions, and only when they are asked for", () =>
    Effect.gen(function*() {
      const stored = "node_modules/.store/stone@1/node_modules/"
      const folder = yield* project({
        ...Object.fromEntries(
          Object.entries(native).map(([name, content]) => [name.replace("node_modules/", stored), content])
        ),
        "node_modules/choice/package.json": `{"name":"choice","exports":{`
          + `".":{"module-sync":"./sync.mjs","default":"./other.cjs"},"./code":{"node-addons":"./code.cjs","default":"./other.cjs"}}}`,
        "node_modules/choice/sync.mjs": `export default "sync"`,
        "node_modules/choice/code.cjs": `module.exports = "code"`,
        "node_modules/choice/other.cjs": `module.exports = "other"`,
        "node_modules/dialects/package.json": `{"name":"dialects"}`,
        "node_modules/dialects/index.js":
          `exports.open = () => require("absent/promise")\nexports.load = () => import("absent")`,
        "worker.ts": saying(
          `import pebble from "pebble"\nimport choice from "choice"\nimport code from "choice/code"\nimport dialects from "dialects"
let wrong = "none"\ntry { dialects.open() } catch (error) { wrong = error.code }
const later = await dialects.load().catch((error) => error.code)`,
          `JSON.stringify([pebble, choice, code, wrong, later])`
        )
      })
      fs.symlinkSync(".store/stone@1/node_modules/stone", path.join(folder, "node_modules/pebble"))
      const zip = yield* Bundle.node(path.join(folder, "worker.ts"))
      const { said, wrong } = yield* load(zip)
      const expected = ["not really of loader 1", "sync", "code", "MODULE_NOT_FOUND", "ERR_MODULE_NOT_FOUND"]
      assert.strictEqual(said, JSON.stringify(expected), wrong)
      assert.include(namesIn(zip), "node_modules/pebble/index.js")
    }))

  it.live("says which native code, package or version keeps a module from being bundled", () =>
    Effect.gen(function*() {
      const folder = yield* project({
        ...native,
        "own.node": "not really",
        "own.cjs": `module.exports = require("./own.node")`,
        "owner.ts": saying(`import own from "./own.cjs"`, `own`),
        "(app)/own.cjs": `module.exports = require("./absent.node")`,
        "group.ts": saying(`import own from "./(app)/own.cjs"`, `own`),
        "shared/package.json": `{"name":"shared","exports":"./index.ts"}`,
        "shared/index.ts": `export const shared: number = 1`,
        "linked.ts": saying(`import { shared } from "shared"`, `shared`),
        "node_modules/loose/package.json": `{"name":"loose"}`,
        "node_modules/loose/index.js": `with (Math) exports.two = max(1, 2)`,
        "loose.ts": saying(`import loose from "loose"`, `loose`),
        "node_modules/user/package.json": `{"name":"user"}`,
        "node_modules/user/index.js": `module.exports = require("stone")`,
        "node_modules/user/node_modules/stone/package.json": `{"name":"stone","gypfile":true}`,
        "node_modules/user/node_modules/stone/index.js": `module.exports = "stone 2"`,
        "two.ts": saying(`import one from "stone"\nimport two from "user"`, `one + two`),
        "none.ts": saying("", "1")
      })
      fs.symlinkSync("../shared", path.join(folder, "node_modules/shared"))
      const refused = (name: string, external: ReadonlyArray<string> = []) =>
        Effect.map(Effect.flip(Bundle.node(path.join(folder, name), { external })), (error) => error.message)
      assert.match(yield* refused("owner.ts"), /own\.(cjs|node) is or imports native code.*external/s)
      assert.match(
        yield* refused("two.ts"),
        /^stone cannot .* two versions of it are imported: .*user\/node_modules\/stone/m
      )
      assert.include(yield* refused("none.ts", ["ston"]), `names "ston", but no such package is installed`)
      assert.match(yield* refused("group.ts"), /\(app\)\/own\.cjs is or imports native code/)
      assert.match(yield* refused("linked.ts", ["shared"]), /shared is external and TypeScript .*shared\/index\.ts/)
      assert.match(yield* refused("loose.ts"), /loose\/index\.js:1:.*external: \["loose"\]/s)
    }))

  it.live("takes a worker that was compiled to CommonJS", () =>
    Effect.gen(function*() {
      for (const [type, name] of [["commonjs", "worker.js"], ["module", "worker.cjs"]] as const) {
        const folder = yield* project({
          "package.json": JSON.stringify({ type }),
          [name]: `"use strict"
Object.defineProperty(exports, "__esModule", { value: true })
const Worker = require("@effect-ray/core/Worker")
exports.default = Worker.make({ tasks: [] })
console.log("loaded")
`
        })
        const { said, wrong } = yield* load(yield* Bundle.node(path.join(folder, name)))
        assert.deepStrictEqual([said, wrong], ["loaded", ""])
      }
    }))

  it.live("follows links in a Python folder, out of it too, and never for ever", () =>
    Effect.gen(function*() {
      const elsewhere = yield* tempFolder
      const folder = yield* tempFolder
      write(elsewhere, { "shared/util.py": "u = 1\n", "one.py": "o = 1\n" })
      write(folder, { "ml/train.py": "x = 1\n", "..2031_01_01/settings.json": "{}" })
      const link = (target: string, name: string) => fs.symlinkSync(target, path.join(folder, name))
      link(path.join(elsewhere, "shared"), "shared")
      link(path.join(elsewhere, "one.py"), "one.py")
      link("../ml/train.py", "shared.py")
      link("ml/train.py", "again.py")
      // As Kubernetes mounts a ConfigMap.
      link("..2031_01_01", "..data")
      link("..data/settings.json", "settings.json")
      link(".", "ml/around")
      link("..", "ml/above")
      link("..", "up")
      link("/", "shared/top")
      link("self", "self")
      link("/dev/zero", "endless.bin")
      const { lines, value } = yield* logged(Bundle.python(folder))
      assert.deepStrictEqual(namesIn(value), ["again.py", "ml/train.py", "one.py", "settings.json", "shared/util.py"])
      for (
        const name of [
          "ml/around",
          "ml/above",
          "up/ (a link to a folder around it)",
          "shared/top/",
          "self",
          "endless.bin",
          "shared.py"
        ]
      ) {
        assert.include(lines.join(), name)
      }
    }))

  it.live("ends at its bound when links make folders without number of few", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      for (let depth = 0; depth < 20; depth++) {
        fs.mkdirSync(path.join(folder, `level${depth}`))
        for (const name of ["a", "b"]) fs.symlinkSync(`../level${depth + 1}`, path.join(folder, `level${depth}`, name))
      }
      fs.mkdirSync(path.join(folder, "level20"))
      const error = yield* Effect.flip(Bundle.python(folder))
      assert.match(error.message, /more than 10000 files and folders.*\.effect-ray-ignore/)
    }))

  it.live("keeps what may be executed, and no other permission of the file", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      write(folder, { "bin/tool": "#!/bin/sh\n", "ml.py": "" })
      fs.chmodSync(path.join(folder, "bin/tool"), 0o700)
      fs.chmodSync(path.join(folder, "ml.py"), 0o600)
      assert.deepStrictEqual(modesIn(yield* Bundle.python(folder)), { "bin/tool": "755", "ml.py": "644" })
    }))

  it.live("leaves secrets, environments and caches of a Python folder behind, and says so in one line", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      const kept = ["ml/train.py", "ml/key.py", "data/model.bin", "environment.yml", "ml/secrets.py", ".hidden"]
      const left = [
        ".env",
        ".env.production",
        "ml/.ENV",
        ".aws/credentials",
        ".ssh/id_ed25519",
        "deploy/id_rsa",
        "deploy/server.pem",
        "deploy/server.key",
        ".netrc",
        ".npmrc",
        ".bash_history",
        "deploy/prod.env",
        "deploy/terraform.tfstate.backup",
        "deploy/.config/gcloud/access_tokens.db",
        "google/credentials.json",
        "google/service-account-prod.json",
        ".effect-ray/ray.json",
        ".git/config",
        "env/pyvenv.cfg",
        "env/lib/huge.py",
        "build/CACHEDIR.TAG"
      ]
      write(
        folder,
        Object.fromEntries([...kept, ...left, "ml/__pycache__/train.cpython-311.pyc"].map((name) => [name, name]))
      )
      const { lines, value } = yield* logged(Bundle.python(folder))
      assert.deepStrictEqual(namesIn(value), [...kept].sort())
      assert.strictEqual(lines.length, 1)
      assert.match(lines[0]!, /count=20 .*\.aws\//)
      assert.notInclude(lines[0]!, "__pycache__")
    }))

  it.live("leaves secrets behind that links of other names lead to, unless the folder's own file takes them in", () =>
    Effect.gen(function*() {
      const home = yield* tempFolder
      const folder = yield* tempFolder
      write(home, {
        ".aws/credentials": "",
        ".config/gcloud/tokens.db": "",
        ".config/app.toml": "",
        ".ssh/id_ed25519": ""
      })
      write(folder, { "real.pem": "", ".effect-ray-ignore": "!real/\n!mine.txt\n" })
      const link = (target: string, name: string) => fs.symlinkSync(target, path.join(folder, name))
      link(path.join(home, ".aws"), "cloud")
      link(path.join(home, ".config"), "config")
      link(path.join(home, ".ssh/id_ed25519"), "words.txt")
      link("real.pem", "certificate.txt")
      link(path.join(home, ".aws"), "real")
      link(path.join(home, ".ssh/id_ed25519"), "mine.txt")
      const { lines, value } = yield* logged(Bundle.python(folder))
      assert.deepStrictEqual(namesIn(value), ["config/app.toml", "mine.txt", "real/credentials"])
      assert.match(lines.join(), /certificate\.txt, cloud\/, config\/gcloud\/, real\.pem, words\.txt/)
    }))

  it.live("tells what it cannot read, and which name is not UTF-8", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      write(folder, { "ml.py": "", "data/words.txt": "w" })
      fs.writeFileSync(Buffer.concat([Buffer.from(`${folder}/b`), Buffer.from([0xff]), Buffer.from("d.py")]), "")
      const { lines } = yield* logged(Bundle.python(folder))
      assert.match(lines.join(), /b.+d\.py \(its name is not UTF-8\)/)
      // What even root cannot read.
      fs.symlinkSync("a".repeat(300), path.join(folder, "unreadable"))
      const error = yield* Effect.flip(Bundle.python(folder))
      assert.match(error.message, /unreadable cannot be read: .*\.effect-ray-ignore/)
      write(folder, { ".effect-ray-ignore": "unreadable\n" })
      assert.deepStrictEqual(namesIn(yield* Bundle.python(folder)), ["data/words.txt", "ml.py"])
    }))

  it.live("leaves out what the folder's own file names, and takes in again what it wants", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      write(folder, {
        ".effect-ray-ignore": "# Large.\n*.csv\n!keep.csv\nnotebooks/\n!public.pem\n!env/\n\\\n[\n",
        ".gitignore": "generated.py\n",
        "generated.py": "",
        "a.csv": "",
        "keep.csv": "",
        "notebooks/one.py": "",
        "public.pem": "",
        "private.pem": "",
        "env/pyvenv.cfg": ""
      })
      const { lines, value } = yield* logged(Bundle.python(folder))
      assert.deepStrictEqual(namesIn(value), [".gitignore", "env/pyvenv.cfg", "generated.py", "keep.csv", "public.pem"])
      assert.match(lines.join(), /count=3 .*a\.csv, notebooks\/, private\.pem/)
    }))

  it.live("says nothing when nothing was left out", () =>
    Effect.gen(function*() {
      const folder = yield* tempFolder
      write(folder, { "train.py": "", "__pycache__/train.cpython-311.pyc": "" })
      assert.deepStrictEqual((yield* logged(Bundle.python(folder))).lines, [])
    }))

  it.live("says which Python folder is missing", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Bundle.python("/nowhere/python"))
      assert.include(error.message, "/nowhere/python")
    }))
})

import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { unzipSync } from "fflate"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Bundle from "../src/Bundle.ts"
import { packageName } from "../src/RayCluster.ts"
import { module, tempFolder } from "./support.ts"

const write = (folder: string, files: Record<string, string>) => {
  for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(folder, name)), { recursive: true })
    fs.writeFileSync(path.join(folder, name), content)
  }
}

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

  it.live("says which Python folder is missing", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Bundle.python("/nowhere/python"))
      assert.include(error.message, "/nowhere/python")
    }))
})

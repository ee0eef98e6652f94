/**
 * The demo as `make demo` runs it: a process of its own, with a Postgres and a Ray of its own.
 */
import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

/** A Postgres and a Ray have to start, and on a busy machine that takes its time. */
const limit = 300_000

const demo = (folder: string): Promise<{ readonly code: number | null; readonly output: string }> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, ["--conditions=@effect-ray/source", main, folder], {
      stdio: ["ignore", "pipe", "pipe"]
    })
    let output = ""
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => output += chunk)
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => output += chunk)
    child.on("close", (code) => resolve({ code, output }))
  })

const withFolder = async (files: Readonly<Record<string, string>>, use: (folder: string) => Promise<void>) => {
  const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-ray-demo-"))
  try {
    for (const [name, text] of Object.entries(files)) Fs.writeFileSync(Path.join(folder, name), text)
    await use(folder)
  } finally {
    Fs.rmSync(folder, { recursive: true, force: true })
  }
}

describe("the demo", () => {
  it("reports on the files of a folder and says ok", () =>
    withFolder({
      "cats.md": "Cats sleep. Cats purr. Dogs bark at cats.\n",
      "more cats.md": "The cats purr, the cats sleep, and the dogs bark.\n",
      "sea.txt": "Waves, wind and salt.\nThe sea is wide.\n"
    }, async (folder) => {
      const { code, output } = await demo(folder)
      const lines = output.trimEnd().split("\n")
      assert.match(lines.at(-1) ?? "", /^demo ok: 4 files/, output)
      assert.strictEqual(code, 0, output)
      const row = (start: string) => lines.find((line) => line.startsWith(start)) ?? ""
      assert.match(row("Summarise  sea.txt"), /127\.0\.0\.1 +\d+ +1 .*2 lines, longest 21, 8 words, 1 min to read$/)
      assert.include(row("Summarise  bad-on-purpose.txt"), "NotText: not UTF-8 from byte 19")
      assert.include(row("Notify"), "delivered at attempt 2")
      assert.include(row("Watch"), "cancelled")
      assert.include(row("Compare"), "3 files × ")
      assert.match(lines.find((line) => /^0\.\d\d /.test(line)) ?? "", /cats\.md +more cats\.md$/)
    }), limit)

  it("says what is wrong with a folder without text files", () =>
    withFolder({ "picture.png": "not a text" }, async (folder) => {
      const { code, output } = await demo(folder)
      assert.strictEqual(code, 1)
      assert.match(output, /^demo failed: .*make demo DIR=path\n$/)
    }))
})

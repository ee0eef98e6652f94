import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { maxBytes, maxFiles, textFiles } from "../src/files.ts"

const withFolder = <A, E>(use: (folder: string, write: (name: string, text: string) => void) => Effect.Effect<A, E>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "effect-ray-demo-"))),
    (folder) =>
      use(folder, (name, text) => {
        Fs.mkdirSync(Path.dirname(Path.join(folder, name)), { recursive: true })
        Fs.writeFileSync(Path.join(folder, name), text)
      }),
    (folder) => Effect.sync(() => Fs.rmSync(folder, { recursive: true, force: true }))
  )

const paths = (folder: string) => Effect.map(textFiles(folder), (files) => files.map(({ path }) => path))

describe("the files of the demo", () => {
  it.live("are the folder's own text files", () =>
    withFolder((folder, write) => {
      write("a.md", "a")
      write("src/b.ts", "b")
      write("empty.md", "")
      write("picture.png", "not text")
      write("node_modules/c/c.ts", "somebody else's")
      write(".venv/d.py", "somebody else's")
      Fs.symlinkSync("/etc/hosts", Path.join(folder, "link.md"))
      return Effect.map(paths(folder), (found) => assert.deepStrictEqual(found, ["a.md", "src/b.ts"]))
    }))

  it.live("are those that git knows and does not ignore", () =>
    withFolder((folder, write) => {
      execFileSync("git", ["init", "--quiet", folder])
      write(".gitignore", "secret.md\n")
      write("secret.md", "s")
      write("a b.md", "a")
      write("ünï.txt", "u")
      return Effect.map(paths(folder), (found) => assert.deepStrictEqual(found, ["a b.md", "ünï.txt"]))
    }))

  it.live("are bounded in size and number, the largest first", () =>
    withFolder((folder, write) => {
      write("large.txt", "x".repeat(maxBytes + 1))
      for (let n = 0; n < maxFiles + 5; n++) write(`${String(n).padStart(3, "0")}.txt`, "x".repeat(n + 1))
      return Effect.map(paths(folder), (found) => {
        assert.strictEqual(found.length, maxFiles)
        assert.strictEqual(found[0], "005.txt")
      })
    }))

  it.live("must be there", () =>
    withFolder((folder, write) => {
      write("alone.md", "one")
      return Effect.gen(function*() {
        assert.include((yield* Effect.flip(paths(folder))).message, "make demo DIR=")
        assert.strictEqual((yield* Effect.flip(paths(Path.join(folder, "alone.md"))))._tag, "NoFiles")
        assert.strictEqual((yield* Effect.flip(paths(Path.join(folder, "missing"))))._tag, "NoFiles")
      })
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { describeLeftOut, maxBytes, maxFiles, textFiles } from "../src/files.ts"

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

const paths = (folder: string) => Effect.map(textFiles(folder), ({ files }) => files.map(({ path }) => path))

/** As an ordinary user, whom permissions concern. */
const asNobody = Effect.acquireRelease(
  Effect.sync(() => {
    const own = process.geteuid!()
    if (own === 0) process.seteuid!(65_534)
    return own
  }),
  (own) => Effect.sync(() => process.seteuid!(own))
)

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
      return Effect.map(textFiles(folder), ({ files, leftOut }) => {
        assert.strictEqual(files.length, maxFiles)
        assert.strictEqual(files[0]!.path, "005.txt")
        assert.deepStrictEqual(leftOut, { tooLarge: 1, tooMany: 5 })
      })
    }))

  it.live("are told apart from what is left out", () =>
    withFolder((folder, write) => {
      write("a.md", "a")
      write("b.md", "b")
      write("locked.md", "l")
      write("empty.md", "")
      write("large.md", "x".repeat(maxBytes + 1))
      write("Makefile", "all:")
      Fs.writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0xff]), Buffer.from(".md")]), "not UTF-8")
      Fs.symlinkSync("/etc/hosts", Path.join(folder, "link.md"))
      Fs.chmodSync(folder, 0o755)
      Fs.chmodSync(Path.join(folder, "locked.md"), 0o000)
      return Effect.scoped(Effect.gen(function*() {
        yield* asNobody
        const { files, leftOut } = yield* textFiles(folder)
        assert.deepStrictEqual(files.map(({ path }) => path), ["a.md", "b.md"])
        assert.deepStrictEqual(leftOut, { otherKind: 1, notAFile: 1, empty: 1, tooLarge: 1, unreadable: 2 })
        assert.strictEqual(
          describeLeftOut(leftOut),
          `left out: 1 of other kinds, 1 linked, 1 empty, 1 over ${maxBytes} bytes, 2 unreadable`
        )
        assert.isUndefined(describeLeftOut({}))
      }))
    }))

  it.live("are not looked for in a folder that cannot be read, which is told", () =>
    withFolder((folder) => {
      Fs.chmodSync(folder, 0o000)
      return Effect.scoped(Effect.gen(function*() {
        yield* asNobody
        assert.include((yield* Effect.flip(textFiles(folder))).message, "permission denied")
      })).pipe(Effect.ensuring(Effect.sync(() => Fs.chmodSync(folder, 0o700))))
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

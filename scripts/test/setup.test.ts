/** The set-up's part for npm, with an npm of the test's own that writes down how it was called. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawnSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const setup = fileURLToPath(new URL("../setup.sh", import.meta.url))

const executable = (file: string, lines: ReadonlyArray<string>) => {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  fs.writeFileSync(file, `#!/bin/sh\n${lines.join("\n")}\n`, { mode: 0o755 })
}

/**
 * A repository of nothing but the set-up. Its npm has a system's settings at /system/npmrc when an old Node runs it, as
 * on a machine; `install` is what it does where the packages of the lock file are asked for.
 */
const prepared = (install: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const root = fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-setup-"))
      const write = (name: string, text: string) => {
        fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true })
        fs.writeFileSync(path.join(root, name), text)
      }
      fs.mkdirSync(path.join(root, "scripts"))
      fs.copyFileSync(setup, path.join(root, "scripts/setup.sh"))
      for (
        const name of [
          "package.json",
          "packages/a/package.json",
          "examples/a/package.json",
          "bench/package.json",
          "chaos/package.json"
        ]
      ) {
        write(name, JSON.stringify({ devDependencies: { node: "24.0.0" } }))
      }
      write("package-lock.json", "{}")
      write("infra/requirements.txt", "")
      // A Node that is too old: another one is installed, and runs npm from then on.
      executable(path.join(root, "bin/node"), [
        "case \"$1\" in -e) exit 1 ;; -p) echo 24.0.0 ;; *) echo v18.0.0 ;; esac"
      ])
      // The other part is not what is tested: it finds no Python.
      for (const name of ["python3", "python3.13", "python3.12", "python3.11", "python3.10"]) {
        executable(path.join(root, "bin", name), ["exit 1"])
      }
      executable(path.join(root, "bin/npm"), [
        `echo "$NPM_CONFIG_GLOBALCONFIG|$*" >>"${root}/calls"`,
        "case \"$*\" in",
        "  \"config get globalconfig\") echo /system/npmrc ;;",
        "  *--no-save*)",
        ...install,
        "    ;;",
        "  *) mkdir -p node_modules/.bin && cp \"" + root + "/bin/node\" node_modules/.bin/node ;;",
        "esac"
      ])
      return root
    }),
    (root) => Effect.sync(() => fs.rmSync(root, { recursive: true, force: true }))
  )

const run = (root: string) => {
  const { status, stderr } = spawnSync("sh", ["scripts/setup.sh"], {
    cwd: root,
    encoding: "utf8",
    env: { PATH: `${root}/bin:${process.env["PATH"]}`, HOME: root }
  })
  return { status, stderr, calls: fs.readFileSync(path.join(root, "calls"), "utf8").trim().split("\n") }
}

it.live("installs with the system's settings, though another Node runs npm, and gives up within minutes", () =>
  Effect.gen(function*() {
    const root = yield* prepared(["    :"])
    const { calls } = run(root)
    const installs = calls.filter((call) => call.includes("install"))
    assert.lengthOf(installs, 2)
    for (const call of installs) {
      assert.match(call, /^\/system\/npmrc\|/)
      assert.match(call, /--fetch-retries=2 .*--fetch-timeout=60000/)
    }
  }))

it.live("says what npm said when it fails", () =>
  Effect.gen(function*() {
    const root = yield* prepared(["    echo \"npm error code SELF_SIGNED_CERT_IN_CHAIN\" >&2; exit 1"])
    const { status, stderr } = run(root)
    assert.notStrictEqual(status, 0)
    assert.include(stderr, "SELF_SIGNED_CERT_IN_CHAIN")
    assert.include(stderr, "npm install failed")
  }))

it.live("does not empty the folder that .venv is a link to", () =>
  Effect.gen(function*() {
    const root = yield* prepared(["    :"])
    const shared = path.join(root, "shared")
    fs.mkdirSync(shared)
    fs.writeFileSync(path.join(shared, "precious"), "")
    fs.symlinkSync(shared, path.join(root, ".venv"))
    // As Python's venv: it clears what the link leads to, and then refuses the link.
    executable(path.join(root, "bin/python3"), ["case \"$*\" in *--clear*) rm -f .venv/*; exit 1 ;; esac"])
    const { status, stderr } = run(root)
    assert.notStrictEqual(status, 0)
    assert.deepStrictEqual(fs.readdirSync(shared), ["precious"])
    assert.include(stderr, ".venv is a link")
  }))

/** The embedded server: starts anywhere, keeps what it should, leaves nothing behind. */
import { EmbeddedPostgres } from "@effect-ray/postgres"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import { spawn } from "node:child_process"
import { existsSync } from "node:fs"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { eventually } from "./kit.ts"

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

const temporaryFolder = Effect.acquireRelease(
  Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "effect-ray-test-"))),
  (folder) => Effect.promise(() => Fs.rm(folder, { recursive: true, force: true }))
)

const query = (server: EmbeddedPostgres.Server, text: string) =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    return yield* sql.unsafe<{ readonly value: string }>(text)
  }).pipe(Effect.provide(PgClient.layer({ url: server.url }), { local: true }))

describe("EmbeddedPostgres", () => {
  it.live("serves on loopback behind a password, and ends with its scope", () =>
    Effect.gen(function*() {
      const server = yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* EmbeddedPostgres.make()
        assert.notInclude(JSON.stringify(server), Redacted.value(server.password))
        const rows = yield* query(server, "SELECT current_setting('listen_addresses') AS value")
        assert.deepStrictEqual(rows, [{ value: "127.0.0.1" }])
        const url = Redacted.make(`postgres://postgres:wrong@127.0.0.1:${server.port}/postgres`)
        const refused = yield* Effect.exit(query({ ...server, url }, "SELECT 'in' AS value"))
        assert.strictEqual(refused._tag, "Failure")
        return server
      }))
      assert.isFalse(isAlive(server.pid))
      assert.isFalse(existsSync(server.dataFolder))
    }))

  it.live("keeps the data of a folder it is given, and its password, from start to start", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      // A folder that a server of another account can enter.
      yield* Effect.promise(() => Fs.chmod(folder, 0o755))
      const dataFolder = Path.join(folder, "data")
      const once = (text: string) =>
        Effect.scoped(Effect.gen(function*() {
          const server = yield* EmbeddedPostgres.make({ dataFolder })
          assert.strictEqual(server.dataFolder, dataFolder)
          return yield* query(server, text)
        }))
      yield* once("CREATE TABLE kept AS SELECT 'still here' AS value")
      assert.deepStrictEqual(yield* once("SELECT value FROM kept"), [{ value: "still here" }])
    }))

  it.live("tells why it cannot start", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      yield* Effect.promise(() => Fs.chmod(folder, 0o755))
      yield* Effect.promise(() => Fs.writeFile(Path.join(folder, "mine.txt"), ""))
      const taken = yield* Effect.flip(EmbeddedPostgres.make({ dataFolder: folder }))
      assert.include(taken.message, "contains other files")

      const missing = yield* Effect.flip(EmbeddedPostgres.make({ packageName: "no-such-postgres" }))
      assert.include(missing.message, "no-such-postgres is not installed")

      const blocker = yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer().listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.promise(() => new Promise((resolve) => server.close(resolve)))
      )
      const port = (blocker.address() as Net.AddressInfo).port
      const inUse = yield* Effect.flip(EmbeddedPostgres.make({ port }))
      assert.include(inUse.message, "Address already in use")
    }))

  it.live("sees of the environment what programs need, and no secret", () =>
    Effect.gen(function*() {
      const names = ["EFFECT_RAY_TEST_SECRET", "PGOPTIONS", "DATABASE_PASSWORD", "HOME"]
      const before = names.map((name) => process.env[name])
      yield* Effect.addFinalizer(() =>
        Effect.sync(() =>
          names.forEach((name, at) => {
            if (before[at] === undefined) delete process.env[name]
            else process.env[name] = before[at]
          })
        )
      )
      for (const name of names) process.env[name] = "sesame"
      const server = yield* EmbeddedPostgres.make()
      const children = (yield* Effect.promise(() => Fs.readdir("/proc"))).filter((name) => /^\d+$/.test(name))
      let looked = 0
      for (const pid of children) {
        const read = (file: string) => Fs.readFile(`/proc/${pid}/${file}`, "latin1").catch(() => "")
        const [stat, environment] = yield* Effect.promise(() => Promise.all([read("stat"), read("environ")]))
        // The server, its own processes, and the shell that watches it.
        const parent = Number(stat.replace(/^.*\) /s, "").split(" ")[1])
        if (parent !== process.pid && parent !== server.pid) continue
        looked++
        assert.notInclude(environment, "sesame", `process ${pid}`)
      }
      assert.isAbove(looked, 2)
      assert.deepStrictEqual(yield* query(server, "SELECT current_setting('lc_messages') AS value"), [{ value: "C" }])
    }))

  it.live("does not take for its own what another user could have put into its data folder", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      yield* Effect.promise(() => Fs.chmod(folder, 0o755))
      const dataFolder = Path.join(folder, "data")
      yield* Effect.scoped(EmbeddedPostgres.make({ dataFolder }))
      const passwordFile = Path.join(dataFolder, "effect-ray.password")
      const refused = Effect.map(Effect.flip(EmbeddedPostgres.make({ dataFolder })), (error) => error.message)
      for (const words of ["", "two words\n", "x".repeat(10_000), "\0"]) {
        yield* Effect.promise(() => Fs.writeFile(passwordFile, words))
        assert.match(yield* refused, /effect-ray\.password contains no password/)
      }
      yield* Effect.promise(() => Fs.rm(passwordFile))
      yield* Effect.promise(() => Fs.symlink("/etc/hostname", passwordFile))
      assert.match(yield* refused, /ELOOP/)
      if (process.getuid?.() !== 0) return
      yield* Effect.promise(() => Fs.chown(dataFolder, 0, 0))
      assert.match(yield* refused, /belongs to another user/)
    }))

  it.live("as root, keeps data that its account could not reach where nobody else can put any", () =>
    Effect.gen(function*() {
      const folder = yield* temporaryFolder
      const dataFolder = Path.join(folder, "data")
      const { dataFolder: chosen } = yield* Effect.scoped(EmbeddedPostgres.make({ dataFolder }))
      yield* Effect.addFinalizer(() => Effect.promise(() => Fs.rm(chosen, { recursive: true, force: true })))
      if (process.getuid?.() !== 0) return assert.strictEqual(chosen, dataFolder)
      assert.match(chosen, /^\/var\/lib\/effect-ray\/data-[0-9a-f]{16}$/)
      const { mode, uid } = yield* Effect.promise(() => Fs.stat(Path.dirname(chosen)))
      assert.deepStrictEqual([uid, mode & 0o022], [0, 0])
      // The next start finds it.
      const again = yield* Effect.scoped(EmbeddedPostgres.make({ dataFolder }))
      assert.strictEqual(again.dataFolder, chosen)
    }))

  it.live("ends when its process is killed without a word, and leaves no data, also where it had crashed before", () =>
    Effect.gen(function*() {
      for (const crashes of [false, true]) {
        const program = fileURLToPath(new URL("./embeddedPostgresProgram.ts", import.meta.url))
        const child = yield* Effect.acquireRelease(
          Effect.sync(() =>
            spawn(process.execPath, ["--conditions=@effect-ray/source", program], {
              stdio: ["ignore", "pipe", "inherit"]
            })
          ),
          (child) => Effect.sync(() => child.kill("SIGKILL"))
        )
        const told = yield* Effect.callback<string>((resume) => {
          child.stdout.setEncoding("utf8").once("data", (line: string) => resume(Effect.succeed(line)))
        })
        const { dataFolder, pid } = JSON.parse(told) as { readonly pid: number; readonly dataFolder: string }
        assert.isTrue(isAlive(pid))
        if (crashes) {
          process.kill(pid, "SIGKILL")
          yield* eventually("the server is gone", Effect.sync(() => !isAlive(pid)))
          assert.isTrue(existsSync(dataFolder))
        }
        child.kill("SIGKILL")
        yield* eventually("the server is gone", Effect.sync(() => !isAlive(pid)))
        yield* eventually("so is its data", Effect.sync(() => !existsSync(dataFolder)))
      }
    }))
})

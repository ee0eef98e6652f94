import * as PgBroker from "@effect-ray/postgres/PgBroker"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Task } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import { createHash } from "node:crypto"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { Double } from "./fixtures/tasks.ts"
import { fixture, type Program, run, start, temporaryFolder } from "./kit.ts"

/** The address that `dev` printed. */
const postgresOf = (program: Program): string => /Postgres +(postgres:\S+)/.exec(program.stdout())?.[1] ?? ""

/** A working directory; what a Postgres of it keeps elsewhere when it is root's is deleted with it. */
const workingDirectory = Effect.tap(temporaryFolder, (cwd) =>
  Effect.addFinalizer(() =>
    Effect.sync(() => {
      const data = createHash("sha256").update(path.join(cwd, ".effect-ray", "postgres")).digest("hex").slice(0, 16)
      fs.rmSync(`/var/lib/effect-ray/data-${data}`, { recursive: true, force: true })
    })
  ))

const onPostgres = (url: string) =>
  Effect.provide(Layer.provide(PgBroker.layer(), PgClient.layer({ url: Redacted.make(url) })))

/** Where no Ray is to be found. */
const withoutRay = { PATH: "/usr/bin:/bin" }

describe("effect-ray dev", () => {
  it.live("brings a Postgres of its own at an address that stays, migrates it, runs tasks, and keeps the data", () =>
    Effect.gen(function*() {
      const cwd = yield* workingDirectory
      const options = { cwd, env: withoutRay }
      const executions: Array<string> = []
      const addresses = new Set<string>()
      for (const n of [1, 2]) {
        const program = yield* start(["dev", fixture("worker.ts")], options)
        yield* program.says("supervisor started")
        assert.match(program.stdout(), /Ray +none, attempts run in this process: .*there is no ray command/)
        if (n === 1) {
          assert.match((yield* run(["dev", fixture("worker.ts")], options)).stderr, /another `effect-ray dev` runs/)
        }
        assert.match(program.stdout(), /Worker +.*worker\.ts, queues default, held, crowd, python; start again/)
        addresses.add(postgresOf(program))
        yield* onPostgres(postgresOf(program))(Effect.gen(function*() {
          const execution = yield* Task.enqueue(Double, { n })
          assert.strictEqual(yield* execution.await, 2 * n)
          executions.push(execution.id)
          // What an earlier run did is still known.
          const [first] = executions
          assert.strictEqual(yield* (yield* Task.execution(Double, first!)).await, 2)
        }))
        yield* program.signal("SIGINT")
        assert.strictEqual(yield* program.exit, 0)
      }
      assert.strictEqual(addresses.size, 1)
      assert.strictEqual(fs.statSync(path.join(cwd, ".effect-ray")).mode & 0o777, 0o700)
      assert.strictEqual(fs.statSync(path.join(cwd, ".effect-ray", "postgres.port")).mode & 0o777, 0o600)
      assert.strictEqual(fs.readFileSync(path.join(cwd, ".effect-ray", ".gitignore"), "utf8"), "*\n")
    }))

  it.live("takes another port when that of the last start is taken", () =>
    Effect.gen(function*() {
      const cwd = yield* workingDirectory
      const taken = net.createServer()
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void taken.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => taken.close())
      )
      const { port } = taken.address() as net.AddressInfo
      fs.mkdirSync(path.join(cwd, ".effect-ray"), { mode: 0o700 })
      fs.writeFileSync(path.join(cwd, ".effect-ray", "postgres.port"), String(port))
      const program = yield* start(["dev", fixture("worker.ts"), "--in-process"], { cwd })
      yield* program.says("supervisor started")
      const { port: chosen } = new URL(postgresOf(program))
      assert.notStrictEqual(chosen, String(port))
      assert.strictEqual(fs.readFileSync(path.join(cwd, ".effect-ray", "postgres.port"), "utf8"), chosen)
      // Nothing was said of a Ray, which nobody wants here.
      assert.notInclude(program.stderr(), "a Ray")
      yield* program.signal("SIGINT")
      assert.strictEqual(yield* program.exit, 0)
    }))

  it.live("starts with any rubbish in the file of its port", () =>
    Effect.gen(function*() {
      const cwd = yield* workingDirectory
      fs.mkdirSync(path.join(cwd, ".effect-ray"), { mode: 0o700 })
      const record = path.join(cwd, ".effect-ray", "postgres.port")
      for (const rubbish of ["", "99999", "22", "-1", "0x1f90", "NaN", "1e4", "5432; DROP", "\0\xff", "9".repeat(99)]) {
        fs.writeFileSync(record, rubbish)
        yield* Effect.scoped(Effect.gen(function*() {
          const program = yield* start(["dev", fixture("worker.ts"), "--in-process"], { cwd })
          yield* program.says("supervisor started")
          yield* program.signal("SIGINT")
          assert.strictEqual(yield* program.exit, 0, rubbish)
          assert.match(fs.readFileSync(record, "utf8"), /^\d{4,5}$/)
        }))
      }
    }))

  it.live("refuses a state folder that another user may have put there, and one that is a link", () =>
    Effect.gen(function*() {
      const cwd = yield* workingDirectory
      const folder = path.join(cwd, ".effect-ray")
      const elsewhere = yield* temporaryFolder
      fs.symlinkSync(elsewhere, folder)
      const refused = run(["dev", fixture("worker.ts"), "--in-process"], { cwd })
      const link = yield* refused
      assert.strictEqual(link.code, 1)
      assert.match(link.stderr, /\.effect-ray cannot be used: it is a link/)
      fs.rmSync(folder)
      fs.mkdirSync(folder, { mode: 0o700 })
      const precious = path.join(elsewhere, "precious")
      for (const name of [".gitignore", "postgres.port"]) {
        fs.symlinkSync(precious, path.join(folder, name))
        assert.include((yield* refused).stderr, `its ${name} is neither a file nor a folder`)
        fs.rmSync(path.join(folder, name))
      }
      fs.chmodSync(folder, 0o777)
      assert.match((yield* refused).stderr, /other users may write in it/)
      if (process.getuid?.() !== 0) return
      fs.chmodSync(folder, 0o700)
      fs.chownSync(folder, 65_534, 65_534)
      assert.match((yield* refused).stderr, /\.effect-ray cannot be used: it belongs to another user \(65534\)/)
      assert.deepStrictEqual(fs.readdirSync(elsewhere), [])
    }))

  it.live("tells that Postgres does not answer before it starts a Ray, and that the Ray that was named is not there", () =>
    Effect.gen(function*() {
      const cwd = yield* workingDirectory
      const away = yield* run(["dev", fixture("worker.ts")], {
        cwd,
        env: { DATABASE_URL: "postgres://user:sesame@127.0.0.1:1/app" }
      })
      assert.strictEqual(away.code, 1)
      assert.match(away.stderr, /Postgres at 127\.0\.0\.1:1\/app cannot be used/)
      assert.notInclude(away.stderr, "a Ray")

      const named = yield* run(["dev", fixture("worker.ts")], { cwd, env: { EFFECT_RAY_PYTHON: "/nowhere/python" } })
      assert.strictEqual(named.code, 1)
      assert.match(named.stderr, /EFFECT_RAY_PYTHON is \/nowhere\/python, but there is no ray beside it/)
      assert.notInclude(named.stdout, "attempts run in this process")
    }))
})

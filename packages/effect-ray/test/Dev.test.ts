import * as PgBroker from "@effect-ray/postgres/PgBroker"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Task } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs"
import * as net from "node:net"
import * as path from "node:path"
import { Double } from "./fixtures/tasks.ts"
import { fixture, type Program, run, start, temporaryFolder } from "./kit.ts"

/** The address that `dev` printed. */
const postgresOf = (program: Program): string => /Postgres +(postgres:\S+)/.exec(program.stdout())?.[1] ?? ""

const onPostgres = (url: string) =>
  Effect.provide(Layer.provide(PgBroker.layer(), PgClient.layer({ url: Redacted.make(url) })))

/** Where no Ray is to be found. */
const withoutRay = { PATH: "/usr/bin:/bin" }

describe("effect-ray dev", () => {
  it.live("brings a Postgres of its own at an address that stays, migrates it, runs tasks, and keeps the data", () =>
    Effect.gen(function*() {
      const cwd = yield* temporaryFolder
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
      assert.strictEqual(fs.readFileSync(path.join(cwd, ".effect-ray", ".gitignore"), "utf8"), "*\n")
    }))

  it.live("takes another port when that of the last start is taken", () =>
    Effect.gen(function*() {
      const cwd = yield* temporaryFolder
      const taken = net.createServer()
      yield* Effect.acquireRelease(
        Effect.callback<void>((resume) => void taken.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => taken.close())
      )
      const { port } = taken.address() as net.AddressInfo
      fs.mkdirSync(path.join(cwd, ".effect-ray"))
      fs.writeFileSync(path.join(cwd, ".effect-ray", "postgres.port"), String(port))
      const program = yield* start(["dev", fixture("worker.ts"), "--in-process"], { cwd })
      yield* program.says("supervisor started")
      const { port: chosen } = new URL(postgresOf(program))
      assert.notStrictEqual(chosen, String(port))
      assert.strictEqual(fs.readFileSync(path.join(cwd, ".effect-ray", "postgres.port"), "utf8"), chosen)
      // Nothing was said of a Ray, which nobody wants here.
      assert.notInclude(program.stderr(), "a Ray")
    }))

  it.live("tells that Postgres does not answer before it starts a Ray, and that the Ray that was named is not there", () =>
    Effect.gen(function*() {
      const cwd = yield* temporaryFolder
      const away = yield* run(["dev", fixture("worker.ts")], {
        cwd,
        env: { DATABASE_URL: "postgres://user:sesame@127.0.0.1:1/app" }
      })
      assert.strictEqual(away.code, 1)
      assert.match(away.stderr, /Postgres at 127\.0\.0\.1:1\/app cannot be used/)
      assert.notInclude(away.stderr, "a Ray")

      const named = yield* run(["dev", fixture("worker.ts")], { cwd, env: { EFFECT_RAY_PYTHON: "/nowhere/python" } })
      assert.strictEqual(named.code, 1)
      assert.match(named.stderr, /EFFECT_RAY_PYTHON is \/nowhere\/python, and there is no ray beside it/)
      assert.notInclude(named.stdout, "attempts run in this process")
    }))
})

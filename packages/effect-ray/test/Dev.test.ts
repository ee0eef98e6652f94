import * as PgBroker from "@effect-ray/postgres/PgBroker"
import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, describe, it } from "@effect/vitest"
import { Task } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as fs from "node:fs"
import * as path from "node:path"
import { Double } from "./fixtures/tasks.ts"
import { fixture, type Program, run, start, temporaryFolder } from "./kit.ts"

/** The address that `dev` printed. */
const postgresOf = (program: Program): string => /Postgres +(postgres:\S+)/.exec(program.stdout())?.[1] ?? ""

const onPostgres = (url: string) =>
  Effect.provide(Layer.provide(PgBroker.layer(), PgClient.layer({ url: Redacted.make(url) })))

describe("effect-ray dev", () => {
  it.live("brings a Postgres of its own, migrates it, prints its address, runs tasks, and keeps the data", () =>
    Effect.gen(function*() {
      const cwd = yield* temporaryFolder
      const options = { cwd, env: { EFFECT_RAY_PYTHON: "/nowhere/python" } }
      const executions: Array<string> = []
      for (const n of [1, 2]) {
        const program = yield* start(["dev", fixture("worker.ts")], options)
        yield* program.says("supervisor started")
        assert.match(program.stdout(), /Ray +none, attempts run in this process: .*EFFECT_RAY_PYTHON/)
        if (n === 1) {
          assert.match((yield* run(["dev", fixture("worker.ts")], options)).stderr, /another `effect-ray dev` runs/)
        }
        assert.match(program.stdout(), /Worker +.*worker\.ts, queues default, held, crowd/)
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
      assert.strictEqual(fs.readFileSync(path.join(cwd, ".effect-ray", ".gitignore"), "utf8"), "*\n")
    }))
})

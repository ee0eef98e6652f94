import * as Broker from "@effect-ray/core/Broker"
import { assert, layer } from "@effect/vitest"
import { Task } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as fs from "node:fs"
import * as Net from "node:net"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import * as Database from "./database.ts"
import { Crowd, Double, Forever, Hold, Reverse } from "./fixtures/tasks.ts"
import { eventually, fixture, start, temporaryFolder } from "./kit.ts"

const venv = fileURLToPath(new URL("../../../.venv/bin", import.meta.url))

/** Where a head that is recorded in the state folder has its token. */
const tokenOf = (cwd: string) => path.join(cwd, ".effect-ray", "ray.json")

/** Whether anything listens there. */
const answers = (address: string) =>
  Effect.callback<boolean>((resume) => {
    const { hostname, port } = new URL(address)
    const socket = Net.connect(Number(port), hostname, () => {
      socket.destroy()
      resume(Effect.succeed(true))
    })
    socket.on("error", () => resume(Effect.succeed(false)))
  })

const read = (id: string) => Effect.flatMap(Broker.Broker, (broker) => Effect.map(broker.read(id), Option.getOrThrow))

const untilRunning = (id: string) => eventually(read(id), (record) => record.state === "running")

layer(Database.layer, { timeout: "3 minutes", excludeTestServices: true })("effect-ray on Ray", (it) => {
  it.effect("worker --local starts a Ray that others find, runs TypeScript and Python on it, drains, and leaves nothing", () =>
    Effect.gen(function*() {
      const cwd = yield* temporaryFolder
      const env = { ...(yield* Database.environment), PATH: `${venv}${path.delimiter}${process.env["PATH"]}` }
      const worker = fixture("worker.ts")

      const double = yield* Task.enqueue(Double, { n: 21 })
      const reverse = yield* Task.enqueue(Reverse, { text: "stressed" })
      const local = yield* start(["worker", worker, "--local", "--drain", "2 seconds"], { cwd, env })
      yield* local.says("started a local Ray")
      assert.strictEqual(yield* double.await, 42)
      assert.strictEqual(yield* reverse.await, "desserts")
      const [attempt] = yield* (yield* Broker.Broker).attempts(double.id)
      assert.notInclude(Option.getOrThrow(attempt!.place), `pid ${local.pid}`)

      const { address, token } = JSON.parse(fs.readFileSync(tokenOf(cwd), "utf8"))
      assert.isTrue(yield* answers(address))
      const tokenFile = path.join(cwd, "token")
      fs.writeFileSync(tokenFile, `${token}\n`)
      yield* Effect.scoped(Effect.gen(function*() {
        const cluster = yield* start(["worker", worker, "--queue", "crowd", "--ray-auth-token-path", tokenFile], {
          cwd,
          env: { ...env, RAY_ADDRESS: address }
        })
        const dev = yield* start(["dev", worker], { cwd, env })
        yield* cluster.says("supervisor started")
        yield* dev.says("supervisor started")
        assert.include(dev.stdout(), `${address} (found; its token is in ${tokenOf(cwd)})`)
        assert.notInclude(dev.stdout() + dev.stderr(), token)
        const crowd = yield* Task.enqueue(Crowd)
        assert.isAtLeast(yield* crowd.await, 1)
        // What its handler logged is shown, with whose it is.
        yield* dev.says("crowding in")
        const line = dev.stderr().split("\n").find((line) => line.includes("crowding in"))!
        assert.include(line, crowd.id)
        yield* Effect.forEach([cluster, dev], (program) => program.signal("SIGTERM"))
        assert.deepStrictEqual(yield* Effect.all([cluster.exit, dev.exit]), [0, 0])
      }))

      const release = path.join(cwd, "release")
      const hold = yield* Task.enqueue(Hold, { release })
      const endless = yield* Task.enqueue(Forever)
      yield* Effect.forEach([hold.id, endless.id], untilRunning)
      yield* local.signal("SIGTERM")
      yield* local.says("draining")
      fs.writeFileSync(release, "")
      assert.strictEqual(yield* local.exit, 0)
      assert.strictEqual(yield* hold.await, 1)
      const { attempts, losses, state } = yield* read(endless.id)
      assert.deepStrictEqual({ attempts, losses, state }, { attempts: 0, losses: 0, state: "queued" })
      assert.isFalse(yield* answers(address))
      assert.isFalse(fs.existsSync(tokenOf(cwd)))
    }))
})

/**
 * What is left when processes are killed in the middle of their work: on a real Postgres, a real Ray, with real workers.
 */
import { assert, describe, layer } from "@effect/vitest"
import { Broker } from "@effect-ray/core/Broker"
import * as LocalRay from "@effect-ray/ray/LocalRay"
import * as PgClient from "@effect/sql-pg/PgClient"
import { Task } from "effect-ray"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as database from "./database.ts"
import { Hold, Poison } from "./fixtures/hold.ts"
import { eventually, fixture, start } from "./kit.ts"

const attempts = 200

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-ray-survival-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

const ray = Layer.unwrap(Effect.map(folder, (folder) => LocalRay.layer({ stateFolder: folder, cpus: 2 })))

interface Started {
  readonly n: number
  readonly pid: number
}

const startedIn = (file: string): ReadonlyArray<Started> =>
  existsSync(file)
    ? readFileSync(file, "utf8").trim().split("\n").map((line) => {
      const [n, , pid] = line.split(" ").map(Number)
      return { n: n!, pid: pid! }
    })
    : []

/** Ids and command lines of everything below a process. */
const below = (root: number): ReadonlyArray<{ readonly pid: number; readonly command: string }> => {
  const parents = new Map<number, number>()
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue
    try {
      // After the command's closing parenthesis come the state and the parent.
      const stat = readFileSync(`/proc/${name}/stat`, "utf8")
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]))
    } catch {
      continue
    }
  }
  const isBelow = (pid: number): boolean => {
    const parent = parents.get(pid)
    return parent !== undefined && (parent === root || isBelow(parent))
  }
  return [...parents.keys()].filter(isBelow).flatMap((pid) => {
    try {
      return [{ pid, command: readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\u0000", " ") }]
    } catch {
      return []
    }
  })
}

const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`)

const hosts = (head: number) => below(head).filter(({ command }) => command.includes("host.mjs"))
const gateways = (head: number) =>
  below(head).filter(({ command }) => /^\S*python\S* .*-m effect_ray_gateway/.test(command))

const environment = Effect.gen(function*() {
  const cluster = yield* LocalRay.LocalRay
  return {
    ...(yield* database.environment),
    RAY_ADDRESS: cluster.address,
    RAY_AUTH_TOKEN: Redacted.value(cluster.token),
    EFFECT_RAY_LEASE: "5 seconds",
    EFFECT_RAY_LOG_FORMAT: "json"
  }
})

const startWorker = Effect.flatMap(
  environment,
  (env) => start(["worker", fixture("hold.ts"), "--concurrency", String(attempts)], { env })
)

/** Enqueues and waits until every attempt runs in a host, which it does until it is let go. */
const hold = Effect.gen(function*() {
  const inside = yield* folder
  const file = join(inside, "started")
  const release = join(inside, "release")
  const executions = yield* Task.enqueueAll(
    Hold,
    Array.from({ length: attempts }, (_, n) => ({ n, millis: 100, file, release }))
  )
  const started = (count: number) =>
    eventually(Effect.sync(() => startedIn(file).length), (started) => started >= count)
  yield* started(attempts)
  return {
    executions,
    pids: [...new Set(startedIn(file).map(({ pid }) => pid))],
    /** Lets them go once so many have been started again. */
    releaseAfter: (again: number) =>
      Effect.andThen(started(attempts + again), Effect.sync(() => writeFileSync(release, "")))
  }
})

type Held = Effect.Success<typeof hold>

/** Every execution has one recorded outcome, and nothing belongs to anybody any more. */
const allSettled = Effect.fn(function*({ executions }: Held) {
  const broker = yield* Broker
  const sql = yield* PgClient.PgClient
  const { EFFECT_RAY_SCHEMA } = yield* database.environment
  let lost = 0
  for (const [n, execution] of executions.entries()) {
    assert.strictEqual(yield* execution.await, n)
    const record = Option.getOrThrow(yield* broker.read(execution.id))
    assert.strictEqual(record.state, "succeeded")
    const outcomes = (yield* broker.attempts(execution.id)).map(({ outcome }) => outcome)
    assert.strictEqual(outcomes.filter((outcome) => outcome === "succeeded").length, 1, outcomes.join())
    assert.isTrue(outcomes.every((outcome) => outcome === "succeeded" || outcome === "lost"), outcomes.join())
    assert.strictEqual(record.attempts, 1)
    lost += outcomes.length - 1
  }
  const left = yield* sql<{ readonly n: bigint }>`SELECT count(*) AS n FROM ${sql(EFFECT_RAY_SCHEMA!)}.executions`
  assert.strictEqual(Number(left[0]!.n), 0)
  return lost
})

layer(Layer.mergeAll(database.layer, ray), { timeout: "3 minutes", excludeTestServices: true })("Survival", (it) => {
  describe(`kill -9 in the middle of ${attempts} running attempts`, () => {
    it.effect("of the worker: another takes over when the lease has lapsed", () =>
      Effect.gen(function*() {
        const { pid: head } = yield* LocalRay.LocalRay
        const first = yield* startWorker
        const held = yield* hold
        process.kill(first.pid, "SIGKILL")
        const second = yield* startWorker
        yield* held.releaseAfter(1)
        assert.isAbove(yield* allSettled(held), 0)
        yield* second.signal("SIGTERM")
        assert.strictEqual(yield* second.exit, 0)
        assert.isAtMost(hosts(head).length, 2)
      }))

    it.effect("of a host: its attempts are lost at once and run again elsewhere", () =>
      Effect.gen(function*() {
        const { pid: head } = yield* LocalRay.LocalRay
        const worker = yield* startWorker
        const held = yield* hold
        assert.lengthOf(held.pids, 2)
        process.kill(held.pids[0]!, "SIGKILL")
        yield* held.releaseAfter(1)
        const lost = yield* allSettled(held)
        assert.isTrue(lost > 0 && lost <= 100, `${lost} were lost`)
        assert.isFalse(isAlive(held.pids[0]!))
        yield* worker.signal("SIGTERM")
        assert.strictEqual(yield* worker.exit, 0)
        assert.isAtMost(hosts(head).length, 2)
      }))

    it.effect("of the gateway: the next epoch runs what was lost, and no host of the last one is left", () =>
      Effect.gen(function*() {
        const { pid: head } = yield* LocalRay.LocalRay
        const worker = yield* startWorker
        const held = yield* hold
        const running = gateways(head)
        assert.isNotEmpty(running)
        for (const { pid } of running) process.kill(pid, "SIGKILL")
        yield* held.releaseAfter(attempts)
        assert.strictEqual(yield* allSettled(held), attempts)
        yield* eventually(Effect.sync(() => held.pids.filter(isAlive)), (alive) => alive.length === 0)
        assert.isAtMost(hosts(head).length, 2)
        yield* worker.signal("SIGTERM")
        assert.strictEqual(yield* worker.exit, 0)
      }))
  })

  it.effect("a task that kills its host is set aside after the third, which it had to itself", () =>
    Effect.gen(function*() {
      const broker = yield* Broker
      const worker = yield* startWorker
      const file = join(yield* folder, "started")
      const neighbours = yield* Task.enqueueAll(
        Hold,
        Array.from({ length: attempts }, (_, n) => ({ n, millis: 200, file, release: null }))
      )
      const poison = yield* Task.enqueue(Poison)
      const reason = yield* Effect.flip(poison.await)
      assert(reason._tag === "TaskError" && reason.reason._tag === "Quarantined", String(reason))
      const outcomes = (yield* broker.attempts(poison.id)).map(({ outcome }) => outcome)
      assert.deepStrictEqual(outcomes, ["lost", "lost", "lost"])
      for (const [n, neighbour] of neighbours.entries()) {
        assert.strictEqual(yield* neighbour.await, n)
        const { losses } = Option.getOrThrow(yield* broker.read(neighbour.id))
        assert.isAtMost(losses, 2)
      }
      yield* worker.signal("SIGTERM")
      assert.strictEqual(yield* worker.exit, 0)
    }))
})

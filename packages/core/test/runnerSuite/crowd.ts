import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { randomUUID } from "node:crypto"
import { Runner } from "../../src/Runner.ts"
import { endOf, isWell, type It, join, makeAttempt, makeGates, run, valueOf } from "./kit.ts"
import * as Tasks from "./tasks.ts"
import worker from "./worker.ts"

/** At most so many are in flight at once to see that a pool has room for them. */
const many = 8

export const crowdPromises = (it: It, options: { readonly python: boolean }): void => {
  it.effect("supports the worker's own tasks, Python's where it has a Python, and no others", () =>
    Effect.gen(function*() {
      const runner = yield* Runner
      for (const task of worker.tasks) {
        assert.strictEqual(runner.supports(task), task.runtime === "effect" || options.python, task._tag)
      }
      assert.isFalse(runner.supports(Tasks.Unserved))
    }))

  it.effect("has one pool for tasks that share processes, and tells of its changes", () =>
    Effect.gen(function*() {
      const runner = yield* Runner
      const pool = runner.pool(Tasks.Elsewhere)
      const before = pool.limit
      let heard = 0
      yield* Effect.scoped(Effect.gen(function*() {
        yield* runner.listen(() => heard++)
        assert.strictEqual((yield* run(Tasks.Elsewhere, null))._tag, "Succeeded")
      }))
      assert.isAtLeast(pool.limit, 1)
      assert.isUndefined(pool.closed)
      assert.isTrue(pool.limit === before || heard > 0)
      assert.strictEqual(runner.pool(Tasks.Elsewhere), pool)
      assert.strictEqual(runner.pool(Tasks.Wait), runner.pool(Tasks.Gate))
    }))

  it.effect("runs as many at once as its pool says", () =>
    Effect.gen(function*() {
      yield* isWell
      const { pool } = yield* Runner
      const count = Math.min(pool(Tasks.Gate).limit, many)
      const gates = yield* makeGates
      const all = yield* gates.openMany(count)
      yield* gates.begun(count)
      yield* gates.release
      for (const [index, running] of all.entries()) assert.strictEqual(valueOf(yield* join(running)), `gate${index}`)
    }))

  it.effect("returns to each attempt its own end, however many there are and however long they are", () =>
    Effect.gen(function*() {
      const long = "ü€😀".repeat(20_000)
      const payloads = Array.from({ length: 200 }, (_, index) => index % 50 === 0 ? `${index}${long}` : index)
      const ends = yield* Effect.forEach(
        payloads,
        (payload) => Effect.map(run(Tasks.Echo, payload), valueOf),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(ends, payloads)
    }))

  it.effect("runs a suspect, in a process of its own where it isolates suspects", () =>
    Effect.gen(function*() {
      yield* isWell
      const runner = yield* Runner
      const gates = yield* makeGates
      const suspect = yield* gates.open("suspect", { suspect: true })
      yield* gates.begun(1)
      const isolated = runner.isolatesSuspects(Tasks.Gate)
      // A pool need have no room for the suspect and four others.
      const others = yield* gates.openMany(isolated ? Math.min(4, runner.pool(Tasks.Gate).limit - 1) : 4)
      // Where it is alone in the process of others, they need not begin before it ends.
      if (isolated) yield* gates.begun(1 + others.length)
      yield* gates.release
      assert.strictEqual(valueOf(yield* join(suspect)), "suspect")
      for (const other of others) {
        valueOf(yield* join(other))
        if (isolated) assert.notStrictEqual(other.started[0]!.pid, suspect.started[0]!.pid)
      }
    }))

  it.effect("forgets what is acknowledged, and minds neither what it does not know nor a second time", () =>
    Effect.gen(function*() {
      const runner = yield* Runner
      const made = makeAttempt(Tasks.Echo, 1)
      yield* runner.acknowledge([])
      yield* runner.acknowledge([{ execution: randomUUID(), fence: 1 }])
      yield* runner.acknowledge([made.attempt])
      assert.strictEqual(valueOf(yield* endOf(made)), 1)
      yield* runner.acknowledge([made.attempt, made.attempt])
      yield* isWell
    }))

  it.effect("keeps the attempts of one execution apart, one after the other and side by side", () =>
    Effect.gen(function*() {
      const execution = randomUUID()
      for (let fence = 1; fence <= 3; fence++) {
        assert.strictEqual(valueOf(yield* run(Tasks.Echo, fence, { execution, fence, attempt: fence })), fence)
      }
      const ends = yield* Effect.forEach(
        [4, 5, 6],
        (fence) => Effect.map(run(Tasks.Echo, fence, { execution, fence }), valueOf),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(ends, [4, 5, 6])
    }))
}

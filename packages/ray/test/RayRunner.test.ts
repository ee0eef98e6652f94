/** What attempts on a real Ray, through a real gateway, are promised beyond the contract of runners (`RayRunnerSuite.test.ts`). */
import * as Limits from "@effect-ray/core/Limits"
import { Ended } from "@effect-ray/core/Outcome"
import * as Runner from "@effect-ray/core/Runner"
import type * as Task from "@effect-ray/core/Task"
import { assert, layer } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as path from "node:path"
import * as Tasks from "./fixtures/tasks.ts"
import { attempt, eventually, isAlive, lines, module, RegistryLive, run, runnerLayer, tempFolder } from "./support.ts"

const maxResultBytes = 1024 * 1024
const maxPayloadBytes = 2 * 1024 * 1024

process.env["EFFECT_RAY_TEST_ALLOWED"] = "seen"
process.env["EFFECT_RAY_TEST_SECRET"] = "not to be seen"

const RunnerLive = runnerLayer({ grace: Duration.seconds(1) }).pipe(
  Layer.provide(RegistryLive),
  Layer.provide(Layer.succeed(Limits.MaxResultBytes, maxResultBytes)),
  Layer.provide(Layer.succeed(Limits.MaxPayloadBytes, maxPayloadBytes))
)

const stopped = Exit.succeed(Ended.Interrupted({ confirmed: true }))

/** Starts an attempt and waits until its handler has written that it runs. */
const startAndWait = Effect.fnUntraced(function*(
  runner: Runner.Runner["Service"],
  task: typeof Tasks.Wait | typeof Tasks.Spin | typeof Tasks.Sleep,
  folder: string
) {
  const file = path.join(folder, `${task._tag}-${randomUUID()}`)
  const one = attempt(task, { file })
  // As a supervisor runs it, so that the end is seen whatever interrupts it.
  const fiber = yield* Effect.forkChild(runner.run(one.attempt), { uninterruptible: true })
  yield* eventually(lines(file), (written) => written.includes("started"))
  return { ...one, fiber, file }
})

layer(RunnerLive, { excludeTestServices: true, timeout: "3 minutes" })("RayRunner", (it) => {
  it.effect("answers a handler's success, and where it ran", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const { ended, place } = yield* run(runner, Tasks.Add, { a: 20, b: 22 })
      assert.deepStrictEqual(ended, { _tag: "Succeeded", value: "42" })
      assert.isTrue(isAlive(place!.pid))
      assert.notStrictEqual(place!.pid, process.pid)
      assert.match(place!.host, /^test-/)
    }))

  it.effect("answers what a handler died of, and where in its own source", () =>
    Effect.gen(function*() {
      for (const task of [Tasks.Crash, Tasks.CrashOnMain]) {
        const { ended } = yield* run(yield* Runner.Runner, task, { message: "off the road" })
        assert(ended._tag === "Died" && ended.reason._tag === "Defect")
        assert.strictEqual(ended.reason.name, "RangeError")
        assert.strictEqual(ended.reason.detail, "off the road")
        // The fixture's line, not one of the bundle.
        const line = fs.readFileSync(module, "utf8").split("\n").findIndex((text) =>
          text.startsWith("const offTheRoad")
        ) + 1
        assert.match(ended.reason.stack!.split("\n")[1]!, new RegExp(`at offTheRoad \\(.*worker\\.ts:${line}:`))
      }
    }))

  it.effect("answers that a payload is not JSON, whoever wrote it, and disturbs nothing else", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const waiting = yield* startAndWait(runner, Tasks.Wait, yield* tempFolder)
      const rubbish = [
        "",
        "{\"a\":1",
        "{}}",
        "1,\"task\":\"Crash\",\"payload\":{\"message\":\"ran\"}",
        "1\n{\"a\":1,\"b\":2}"
      ]
      for (const payload of rubbish) {
        const one = attempt(Tasks.Add, null)
        const ended = yield* runner.run({ ...one.attempt, payload })
        yield* runner.acknowledge([one.attempt])
        assert(ended._tag === "Died" && ended.reason._tag === "Undecodable", `${payload}: ${JSON.stringify(ended)}`)
        assert.strictEqual(ended.reason.what, "payload")
      }
      yield* Fiber.interrupt(waiting.fiber)
      assert.deepStrictEqual(yield* Fiber.await(waiting.fiber), stopped)
    }))

  it.effect("runs what the task names, whatever stands in a payload", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const file = path.join(yield* tempFolder, "touched")
      const touch = JSON.stringify(`touch ${file}`)
      for (const task of [Tasks.Length, Tasks.Broken, Tasks.Nothing]) {
        const one = attempt(task, null)
        const payload = `{},"module":"os","function":"system","keywords":false,"payload":${touch}`
        const ended = yield* runner.run({ ...one.attempt, payload })
        yield* runner.acknowledge([one.attempt])
        assert(ended._tag === "Died" && ended.reason._tag === "Undecodable", JSON.stringify(ended))
      }
      assert.isFalse(fs.existsSync(file))
    }))

  it.effect("carries values that need many frames, beside small ones", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const long = "ü€😀".repeat(80_000)
      const all = yield* Effect.all([
        ...Array.from({ length: 4 }, () => run(runner, Tasks.Echo, long)),
        ...Array.from({ length: 50 }, (_, index) => run(runner, Tasks.Echo, String(index)))
      ], { concurrency: "unbounded" })
      const values = all.map(({ ended }) => ended._tag === "Succeeded" ? JSON.parse(ended.value) : ended)
      assert.isTrue(values.slice(0, 4).every((value) => value === long))
      assert.deepStrictEqual(values.slice(4), Array.from({ length: 50 }, (_, index) => String(index)))
    }))

  it.effect("goes on in a host whose log cannot be written", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const ends: Array<Ended> = []
      for (let time = 0; time < 3; time++) ends.push((yield* run(runner, Tasks.Mute, null)).ended)
      const [first] = ends
      assert(first?._tag === "Succeeded", JSON.stringify(first))
      assert.deepStrictEqual(ends, [first, first, first])
    }))

  it.effect("refuses an error over the limit, and its host lives on", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const { ended, place } = yield* run(runner, Tasks.Complain, { length: maxResultBytes + 1 })
      assert(ended._tag === "Died" && ended.reason._tag === "ResultTooLarge")
      assert.isTrue(isAlive(place!.pid))
      const small = yield* run(runner, Tasks.Complain, { length: 3 })
      assert(small.ended._tag === "Failed")
      assert.deepStrictEqual(JSON.parse(small.ended.error), { _tag: "TooMuch", text: "xxx" })
    }))

  it.effect("refuses a payload over the limit, and disturbs nothing else", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const [large, small] = yield* Effect.all([
        run(runner, Tasks.Echo, "x".repeat(maxPayloadBytes)),
        run(runner, Tasks.Add, { a: 1, b: 2 })
      ], { concurrency: 2 })
      assert(large.ended._tag === "Died" && large.ended.reason._tag === "Undecodable")
      assert.include(large.ended.reason.detail, "EFFECT_RAY_MAX_PAYLOAD_BYTES")
      assert.deepStrictEqual(small.ended, { _tag: "Succeeded", value: "3" })
    }))

  it.effect("keeps a handler away from what its thread tells the host", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      for (const how of ["close", "deafen", "babble"]) {
        const { ended } = yield* run(runner, Tasks.Meddle, { how })
        assert.deepStrictEqual(ended, { _tag: "Succeeded", value: JSON.stringify(how) })
      }
      // More than other hosts have slots for: some of these go to the thread that was meddled with.
      const after = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, index) => index),
        (index) => run(runner, Tasks.Add, { a: index, b: 0 }),
        { concurrency: 100 }
      )
      assert.isTrue(after.every(({ ended }) => ended._tag === "Succeeded"))
    }))

  it.effect("runs many at once", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const results = yield* Effect.forEach(
        Array.from({ length: 2_000 }, (_, index) => index),
        (index) => run(runner, Tasks.Add, { a: index, b: 1 }),
        { concurrency: 500 }
      )
      assert.deepStrictEqual(
        results.map(({ ended }) => ended._tag === "Succeeded" ? Number(ended.value) : ended),
        Array.from({ length: 2_000 }, (_, index) => index + 1)
      )
    }))

  it.effect("shows hosts the variables that the worker names, and no others", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const seen = (name: string) =>
        Effect.map(run(runner, Tasks.Environment, { name }), ({ ended }) =>
          ended._tag === "Succeeded" ? ended.value : ended)
      assert.strictEqual(yield* seen("EFFECT_RAY_TEST_ALLOWED"), `"seen"`)
      for (const name of ["EFFECT_RAY_TEST_SECRET", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR"]) {
        assert.strictEqual(yield* seen(name), "null", name)
      }
    }))

  it.effect("runs handlers on a host's main thread when the placement says so", () =>
    Effect.gen(function*() {
      const { ended } = yield* run(yield* Runner.Runner, Tasks.Quick, { text: "quick" })
      assert.deepStrictEqual(ended, { _tag: "Succeeded", value: `"QUICK"` })
    }))

  it.effect("answers that no node can run a task", () =>
    Effect.gen(function*() {
      const { ended } = yield* run(yield* Runner.Runner, Tasks.Impossible, null)
      assert(ended._tag === "NotStarted" && ended.obstacle.kind === "unschedulable")
      assert.include(ended.obstacle.detail, "unobtainium")
    }))

  it.effect("stops a busy loop by ending its thread; what shared the thread is lost as collateral", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const folder = yield* tempFolder
      const before = yield* run(runner, Tasks.Add, { a: 1, b: 1 })
      // Hosts have one thread each here. So many waiting attempts fill several hosts, so some share the one that spins.
      const innocents = yield* Effect.forEach(
        Array.from({ length: 12 }),
        () => startAndWait(runner, Tasks.Wait, folder)
      )
      const spin = yield* startAndWait(runner, Tasks.Spin, folder)
      yield* eventually(Effect.sync(() => spin.started.length), (length) => length === 1)
      yield* Fiber.interrupt(spin.fiber)
      assert.deepStrictEqual(yield* Fiber.await(spin.fiber), stopped)
      const pid = spin.started[0]!.pid
      const sharing = innocents.filter(({ started }) => started[0]?.pid === pid)
      assert.isNotEmpty(sharing)
      for (const { fiber } of sharing) {
        const ended = yield* Fiber.join(fiber)
        assert(ended._tag === "Lost" && ended.collateral)
      }
      // The host lives on, with a new thread.
      assert.isTrue(isAlive(pid))
      for (const { fiber } of innocents.filter((one) => !sharing.includes(one))) {
        yield* Fiber.interrupt(fiber)
        assert.deepStrictEqual(yield* Fiber.await(fiber), stopped)
      }
      const after = yield* run(runner, Tasks.Add, { a: 1, b: 2 })
      assert.deepStrictEqual(after.ended, { _tag: "Succeeded", value: "3" })
      assert.strictEqual(before.ended._tag, "Succeeded")
    }))

  it.effect("ends an attempt that ignores its interruption unconfirmed; what shares its thread goes on", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const folder = yield* tempFolder
      const release = path.join(folder, "release")
      const gates = yield* Effect.forEach(Array.from({ length: 12 }, (_, index) => index), (index) => {
        const one = attempt(Tasks.Gate, { file: path.join(folder, `gate${index}`), release })
        return Effect.map(Effect.forkChild(runner.run(one.attempt)), (fiber) => ({ ...one, fiber }))
      })
      yield* eventually(Effect.sync(() => gates), (gates) => gates.every(({ started }) => started.length === 1))
      const file = path.join(folder, "deaf")
      const deaf = attempt(Tasks.Deaf, { file, release: path.join(folder, "never") })
      const fiber = yield* Effect.forkChild(runner.run(deaf.attempt), { startImmediately: true, uninterruptible: true })
      yield* eventually(Effect.sync(() => deaf.started.length), (length) => length === 1)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* Fiber.await(fiber), Exit.succeed(Ended.Interrupted({ confirmed: false })))
      const pid = deaf.started[0]!.pid
      assert.isNotEmpty(gates.filter(({ started }) => started[0]!.pid === pid))
      fs.writeFileSync(release, "")
      for (const gate of gates) assert.strictEqual((yield* Fiber.join(gate.fiber))._tag, "Succeeded")
      assert.isTrue(isAlive(pid))
      // With the last of them its thread has ended, and the deaf attempt with it: its host serves on, in another thread.
      const { ended } = yield* run(runner, Tasks.Add, { a: 1, b: 2 })
      assert.deepStrictEqual(ended, { _tag: "Succeeded", value: "3" })
      assert.deepStrictEqual(yield* lines(file), ["started"])
    }))

  it.effect("replaces a thread that is blocked by what an attempt left behind; its host lives on", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const { ended, place } = yield* run(runner, Tasks.Haunt, { haunts: true })
      assert.strictEqual(ended._tag, "Succeeded")
      const next = yield* run(runner, Tasks.Haunt, { haunts: false })
      assert(next.ended._tag === "Lost" && next.ended.collateral)
      const last = yield* run(runner, Tasks.Haunt, { haunts: false })
      assert.strictEqual(last.ended._tag, "Succeeded")
      assert.strictEqual(last.place!.pid, place!.pid)
    }))

  it.effect("reports a thread that ran out of memory; its host lives on", () =>
    Effect.gen(function*() {
      const { ended, place } = yield* run(yield* Runner.Runner, Tasks.Hoard, null)
      assert(ended._tag === "Lost" && ended.reason._tag === "OutOfMemory")
      assert.isFalse(ended.collateral)
      assert.isTrue(isAlive(place!.pid))
    }))

  it.effect("answers what a thread died of, also where that is no error", () =>
    Effect.gen(function*() {
      const { ended, place } = yield* run(yield* Runner.Runner, Tasks.Strand, null)
      assert(ended._tag === "Lost" && ended.reason._tag === "Lost", JSON.stringify(ended))
      assert.strictEqual(ended.reason.detail, "a handler thread crashed: Object: {\"disk\":\"full\",\"code\":28}")
      assert.isTrue(isAlive(place!.pid))
    }))

  it.effect("runs Python functions: keyword arguments, one argument, none", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const trained = yield* run(runner, Tasks.Train, { rows: 1 })
      assert.deepStrictEqual(trained.ended, {
        _tag: "Succeeded",
        value: JSON.stringify({ loss: 0.5, pid: trained.place!.pid })
      })
      assert.deepStrictEqual((yield* run(runner, Tasks.Length, "twelve bytes")).ended, {
        _tag: "Succeeded",
        value: "12"
      })
      assert.deepStrictEqual((yield* run(runner, Tasks.Nothing, null)).ended, { _tag: "Succeeded", value: "null" })
    }))

  it.effect("answers a declared error that Python raised", () =>
    Effect.gen(function*() {
      const { ended } = yield* run(yield* Runner.Runner, Tasks.Train, { rows: -3 })
      assert(ended._tag === "Failed")
      assert.deepStrictEqual(JSON.parse(ended.error), { _tag: "Diverged", step: -3 })
    }))

  it.effect("answers any other Python exception with its type, message and traceback", () =>
    Effect.gen(function*() {
      const { ended } = yield* run(yield* Runner.Runner, Tasks.Broken, { why: "nowhere to be found" })
      assert(ended._tag === "Died" && ended.reason._tag === "PythonError")
      assert.strictEqual(ended.reason.type, "LookupError")
      assert.include(ended.reason.detail, "nowhere to be found")
      assert.include(ended.reason.traceback, "in broken")
    }))

  it.effect("answers what a Python function returned if it fits the task's Schema, and why not if it does not", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const end = (task: Task.Any, python: string) => Effect.map(run(runner, task, { python }), ({ ended }) => ended)
      const misfit = (task: Task.Any, what: string, python: string, words: string) =>
        Effect.map(end(task, python), (ended) => {
          assert(ended._tag === "Died" && ended.reason._tag === "Undecodable", `${python}: ${JSON.stringify(ended)}`)
          assert.strictEqual(ended.reason.what, what)
          assert.include(ended.reason.detail, words, python)
        })
      assert.deepStrictEqual(yield* end(Tasks.Answer, "{'n': 1.5, 'other': 1}"), {
        _tag: "Succeeded",
        value: "{\"n\":1.5,\"other\":1}"
      })
      assert.deepStrictEqual(yield* end(Tasks.AnswerAnything, "{Colour.RED: {numpy.int64(1): Colour.RED}}"), {
        _tag: "Succeeded",
        value: "{\"red\":{\"1\":\"red\"}}"
      })
      assert.deepStrictEqual(yield* end(Tasks.AnswerNothing, "object()"), { _tag: "Succeeded", value: "null" })
      yield* misfit(Tasks.Answer, "result", "{'x': 1}", "Missing key")
      yield* misfit(Tasks.Answer, "result", "None", "Expected object")
      yield* misfit(Tasks.Answer, "result", "{'n': '1'}", "[\"n\"]")
      for (const number of ["2 ** 53 + 1", "-(2 ** 53) - 1", "10 ** 400"]) {
        yield* misfit(Tasks.Answer, "result", `{'n': ${number}}`, "is beyond what a number holds exactly")
        yield* misfit(Tasks.AnswerAnything, "result", `[[${number}]]`, "is beyond what a number holds exactly")
      }
      yield* misfit(Tasks.AnswerAnything, "result", "datetime.date.today()", "cannot be encoded as JSON")
      yield* misfit(
        Tasks.Answer,
        "error",
        "effect_ray.fail('Divergd', step=1)",
        "\"Divergd\", but the task declares Diverged, TooMuch"
      )
      yield* misfit(Tasks.Answer, "error", "effect_ray.fail('Diverged', step='one')", "[\"step\"]")
      yield* misfit(Tasks.AnswerNothing, "error", "effect_ray.fail('Diverged', step=1)", "the task declares no error")
      // What was raised, and where.
      yield* misfit(Tasks.Answer, "error", "effect_ray.fail('Diverged', stp=1)", "TaskFailure: Diverged {'stp': 1}")
      yield* misfit(Tasks.Answer, "error", "effect_ray.fail('Divergd', step=1)", "in answer\n")
      yield* misfit(
        Tasks.Answer,
        "error",
        "effect_ray.fail('Diverged', step={1})",
        "TaskFailure: Diverged {'step': {1}}"
      )
      assert.deepStrictEqual(yield* end(Tasks.Answer, "effect_ray.fail('Diverged', step=1)"), {
        _tag: "Failed",
        error: "{\"_tag\":\"Diverged\",\"step\":1}"
      })
    }))

  it.effect("answers a declared error that a task of Ray's raised, which the handler started", () =>
    Effect.gen(function*() {
      const { ended } = yield* run(yield* Runner.Runner, Tasks.Answer, { python: "in_a_ray_task(1)" })
      assert.deepStrictEqual(ended, { _tag: "Failed", error: "{\"_tag\":\"Diverged\",\"step\":1}" })
    }))

  it.effect("gives a Python function no payload that does not fit its Schema", () =>
    Effect.gen(function*() {
      const { ended } = yield* run(yield* Runner.Runner, Tasks.Train, { rows: "ten" })
      assert(ended._tag === "Died" && ended.reason._tag === "Undecodable")
      assert.strictEqual(ended.reason.what, "payload")
    }))

  it.effect("stops an asynchronous Python function", () =>
    Effect.gen(function*() {
      const runner = yield* Runner.Runner
      const { attempt, fiber, file } = yield* startAndWait(runner, Tasks.Sleep, yield* tempFolder)
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* Fiber.await(fiber), stopped)
      assert.deepStrictEqual(yield* lines(file), ["started", "interrupted"])
      yield* runner.acknowledge([attempt])
    }))
})

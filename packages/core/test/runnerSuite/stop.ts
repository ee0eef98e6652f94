import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as fs from "node:fs"
import { Ended } from "../../src/Outcome.ts"
import { Runner } from "../../src/Runner.ts"
import {
  eventually,
  type It,
  isWell,
  join,
  lines,
  makeAttempt,
  makeGates,
  start,
  startAndWait,
  stop,
  tempFile,
  understood,
  valueOf
} from "./kit.ts"
import * as Tasks from "./tasks.ts"

const confirmed = Ended.Interrupted({ confirmed: true })

export const stopPromises = (it: It, crowd: number): void => {
  it.effect("stops an attempt, confirms it, and has run its finalizers by then", () =>
    Effect.gen(function*() {
      const file = yield* tempFile
      const running = yield* startAndWait(Tasks.Wait, { file })
      assert.deepStrictEqual(yield* stop(running), confirmed)
      assert.deepStrictEqual(yield* lines(file), ["started", "interrupted", "closed"])
    }))

  it.effect("has told of the start of an attempt that runs for long", () =>
    Effect.gen(function*() {
      const running = yield* startAndWait(Tasks.Wait, { file: yield* tempFile })
      const [place] = yield* eventually(Effect.sync(() => running.started), ({ length }) => length > 0)
      assert.isAbove(place!.pid, 0)
      assert.isNotEmpty(place!.host)
      assert.isNotEmpty(place!.node)
      yield* stop(running)
      assert.lengthOf(running.started, 1)
    }))

  it.effect("stops an attempt whose time is up", () =>
    Effect.gen(function*() {
      const runner = yield* Runner
      const file = yield* tempFile
      const { attempt } = makeAttempt(Tasks.Wait, { file })
      const begun = eventually(lines(file), (written) => written.includes("started"))
      assert.isUndefined(yield* Effect.raceFirst(runner.run(attempt), Effect.asVoid(begun)))
      assert.deepStrictEqual(yield* lines(file), ["started", "interrupted", "closed"])
      yield* runner.acknowledge([attempt])
    }))

  it.effect("calls an attempt stopped whose finalizer dies while it is being stopped", () =>
    Effect.gen(function*() {
      const running = yield* startAndWait(Tasks.Untidy, { file: yield* tempFile })
      assert.deepStrictEqual(yield* stop(running), confirmed)
    }))

  it.effect("waits for a handler that does not let itself be stopped, and takes what came first for its end", () =>
    Effect.gen(function*() {
      const file = yield* tempFile
      const release = `${file}.release`
      const running = yield* startAndWait(Tasks.Finish, { file, release })
      running.fiber.interruptUnsafe()
      yield* Effect.yieldNow
      assert.isUndefined(running.fiber.pollUnsafe())
      fs.writeFileSync(release, "")
      // On its way to another process, the stop may come after the handler's own end.
      const ended = yield* stop(running)
      assert.deepInclude([confirmed, Ended.Succeeded({ value: "null" })], ended)
      assert.deepStrictEqual(yield* lines(file), ["started", "ended"])
    }))

  it.effect("never begins an attempt that was stopped before, be it behind others", () =>
    Effect.gen(function*() {
      const gates = yield* makeGates
      const others = yield* gates.openMany(crowd)
      const file = yield* tempFile
      const late = yield* start(makeAttempt(Tasks.Wait, { file }))
      yield* gates.begun(Math.min(1, crowd))
      assert.deepStrictEqual(yield* stop(late), confirmed)
      assert.deepStrictEqual(yield* lines(file), [])
      yield* gates.release
      for (const other of others) assert.match(valueOf(yield* join(other)), /^gate/)
      assert.deepStrictEqual(yield* lines(file), [])
      assert.deepStrictEqual(late.started, [])
    }))

  it.effect("keeps the end that came before the stop", () =>
    Effect.gen(function*() {
      const gates = yield* makeGates
      const running = yield* gates.open("early")
      yield* gates.begun(1)
      yield* gates.release
      const exit = yield* eventually(Effect.sync(() => running.fiber.pollUnsafe()), (exit) => exit !== undefined)
      running.fiber.interruptUnsafe()
      assert.strictEqual(valueOf(yield* understood(exit!, true)), "early")
      yield* isWell
    }))
}

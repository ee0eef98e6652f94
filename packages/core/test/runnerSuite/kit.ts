/** What every part of the suite works with: attempts, their ends, and files that handlers write. */
import { assert, type Vitest } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import { randomUUID } from "node:crypto"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import type * as Definition from "../../src/Definition.ts"
import * as Handler from "../../src/Handler.ts"
import { type Ended, EndedJson } from "../../src/Outcome.ts"
import { type Attempt, type Place, Runner } from "../../src/Runner.ts"
import * as Tasks from "./tasks.ts"

/** The test API of one part. */
export type It = Vitest.MethodsNonLive<Runner>

/** The limits under which the suite runs, in bytes. */
export const limits = { maxResultBytes: 256 * 1024, maxPayloadBytes: 512 * 1024 }

export interface Made {
  readonly attempt: Attempt
  /** Where the runner said that it runs. */
  readonly started: ReadonlyArray<Place>
}

/** An attempt, and what becomes of its place. */
export const makeAttempt = (task: Definition.Any, payload: unknown, overrides: Partial<Attempt> = {}): Made => {
  const started: Array<Place> = []
  const attempt: Attempt = {
    execution: randomUUID(),
    fence: 3,
    task,
    queue: "default",
    priority: 5,
    attempt: 1,
    payload: JSON.stringify(payload),
    traceparent: Option.none(),
    suspect: false,
    onStart: (place) => started.push(place),
    ...overrides
  }
  return { attempt, started }
}

const encodeEnd = Schema.encodeSync(EndedJson)
const decodeEnd = Schema.decodeSync(EndedJson)

/** An end is what a process can tell another one, whichever runner it is of. */
const crosses = (ended: Ended): Ended => {
  assert.deepStrictEqual(decodeEnd(encodeEnd(ended)), ended)
  return ended
}

/** Runs an attempt to its end and acknowledges it, as a supervisor does. */
export const endOf = Effect.fnUntraced(function*({ attempt, started }: Made) {
  const runner = yield* Runner
  const ended = yield* runner.run(attempt)
  yield* runner.acknowledge([attempt])
  assert.isAtMost(started.length, 1, "told of the start once")
  return crosses(ended)
})

/** How an attempt of the task ends. */
export const run = (
  task: Definition.Any,
  payload: unknown,
  overrides?: Partial<Attempt>
): Effect.Effect<Ended, never, Runner> => Effect.suspend(() => endOf(makeAttempt(task, payload, overrides)))

/** How an attempt ends whose stored payload is this text. */
export const runText = (task: Definition.Any, payload: string): Effect.Effect<Ended, never, Runner> =>
  run(task, null, { payload })

/** The value of an attempt that has to succeed. */
export const valueOf = (ended: Ended): any => {
  assert(ended._tag === "Succeeded", JSON.stringify(ended))
  return JSON.parse(ended.value)
}

/** The reason of an attempt that has to die. */
export const reasonOf = (ended: Ended, about?: string) => {
  assert(ended._tag === "Died", `${about ?? ""} ${JSON.stringify(ended)}`)
  return ended.reason
}

/** Why an attempt that has to end as undecodable does. */
export const misfitOf = (ended: Ended, about?: string) => {
  const reason = reasonOf(ended, about)
  assert(reason._tag === "Undecodable", `${about ?? ""} ${JSON.stringify(reason)}`)
  return reason
}

/** That the runner goes on as if nothing had happened. */
export const isWell = Effect.map(run(Tasks.Echo, "well"), (ended) => assert.strictEqual(valueOf(ended), "well"))

export interface Running extends Made {
  readonly fiber: Fiber.Fiber<Ended>
}

/** Starts an attempt as a supervisor does, which learns how it ended whatever interrupts it. */
export const start = Effect.fnUntraced(function*(made: Made) {
  const runner = yield* Runner
  const fiber = yield* Effect.forkChild(runner.run(made.attempt), { uninterruptible: true })
  return { ...made, fiber }
})

/** The end of a running attempt, as a supervisor understands it. `stopped`: it has interrupted the attempt. */
export const understood = Effect.fnUntraced(function*(exit: Exit.Exit<Ended>, stopped: boolean) {
  const told: Array<Effect.Effect<void>> = []
  const ended = Handler.endOf(exit, stopped, (line) => told.push(line))
  yield* Effect.all(told)
  return crosses(ended)
})

/** Stops a running attempt and acknowledges its end. */
export const stop = Effect.fnUntraced(function*({ attempt, fiber }: Running) {
  yield* Fiber.interrupt(fiber)
  const ended = yield* understood(yield* Fiber.await(fiber), true)
  yield* Effect.flatMap(Runner, (runner) => runner.acknowledge([attempt]))
  return ended
})

/** Waits for the end of an attempt that nobody stops, and acknowledges it. */
export const join = Effect.fnUntraced(function*({ attempt, fiber }: Running) {
  const ended = yield* understood(yield* Fiber.await(fiber), false)
  yield* Effect.flatMap(Runner, (runner) => runner.acknowledge([attempt]))
  return ended
})

/** Tries until it holds. The test's own timeout is the bound. */
export const eventually = <A, E, R>(effect: Effect.Effect<A, E, R>, holds: (a: A) => boolean): Effect.Effect<A, E, R> =>
  Effect.repeat(effect, { until: holds, schedule: Schedule.spaced("25 millis") })

/** A folder that is gone after the test. */
export const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "effect-ray-test-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

/** A file in a folder of its own, which does not exist yet. */
export const tempFile = Effect.map(tempFolder, (folder) => path.join(folder, "file"))

/** The lines of a file that handlers write; none before it exists. */
export const lines = (file: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.sync(() => fs.existsSync(file) ? fs.readFileSync(file, "utf8").trim().split("\n") : [])

/** Starts an attempt whose handler writes that it has begun, and waits until it has. */
export const startAndWait = Effect.fnUntraced(function*(
  task: Definition.Any,
  payload: { readonly file: string; readonly release?: string }
) {
  const running = yield* start(makeAttempt(task, payload))
  yield* eventually(lines(payload.file), (written) => written.includes("started"))
  return running
})

/** Attempts that run until they are let go. */
export const makeGates = Effect.gen(function*() {
  const folder = yield* tempFolder
  const file = path.join(folder, "gates")
  const release = path.join(folder, "release")
  const open = (name: string, overrides?: Partial<Attempt>) =>
    start(makeAttempt(Tasks.Gate, { file, release, name }, overrides))
  return {
    open,
    openMany: (count: number) =>
      Effect.forEach(Array.from({ length: count }, (_, index) => `gate${index}`), (name) => open(name)),
    lines: lines(file),
    /** Waits until so many have begun. */
    begun: (count: number) =>
      eventually(lines(file), (written) => written.filter((text) => text.startsWith("started")).length >= count),
    release: Effect.sync(() => fs.writeFileSync(release, ""))
  }
})

/** The tasks, the worker and the helpers of the tests of supervisors. */
import { assert } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Option, Ref, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import {
  Broker,
  Envelope,
  InProcessRunner,
  MemoryBroker,
  Outcome,
  type Runner,
  Supervisor,
  Task,
  TaskError,
  Worker
} from "../../src/index.ts"

export class Broken extends Schema.TaggedError<Broken>()("Broken", { what: Schema.String }) {}

export class Double extends Task.make("Double", { payload: { n: Schema.Int }, success: Schema.Int }) {}
export class Fail extends Task.make("Fail", {
  payload: { final: Schema.Boolean },
  error: Broken,
  retry: {
    attempts: 3,
    schedule: Schedule.spaced("10 seconds"),
    while: (e) => !(e._tag === "Broken" && e.what === "final")
  }
}) {}
export class Die extends Task.make("Die", { retry: { attempts: 1 } }) {}
export class Chain extends Task.make("Chain", { retry: { attempts: 1 } }) {}
export class Unencodable extends Task.make("Unencodable", { success: Schema.Any, retry: { attempts: 3 } }) {}
export class Sleep
  extends Task.make("Sleep", { payload: { millis: Schema.Int }, timeout: "1 minute", retry: { attempts: 1 } })
{}
export class Careless extends Task.make("Careless", {
  error: Broken,
  retry: {
    while: () => {
      throw new Error("the policy is broken")
    }
  }
}) {}
const undecided = Schedule.addDelay(Schedule.spaced("1 second"), () => Effect.never)
export class Thoughtful extends Task.make("Thoughtful", { error: Broken, retry: undecided }) {}
export class Once extends Task.make("Once", {
  payload: { millis: Schema.Int },
  error: Broken,
  atMostOnce: true,
  retry: { attempts: 5 }
}) {}
export class Promised extends Task.make("Promised", {
  payload: { how: Schema.Literals(["deaf", "listening", "kept"]) },
  timeout: "1 second",
  retry: { attempts: 2, schedule: Schedule.spaced("1 second") }
}) {}
export class Itself extends Task.make("Itself", { retry: { attempts: 2, schedule: Schedule.spaced("1 second") } }) {}
export class Untidy extends Task.make("Untidy", { timeout: "1 second", retry: { attempts: 1 } }) {}
export class Stubborn extends Task.make("Stubborn", { timeout: "1 second", retry: { attempts: 1 } }) {}

export const endless: Runner.Pool = { limit: Number.POSITIVE_INFINITY, closed: undefined }

interface Seen {
  readonly running: Ref.Ref<number>
  readonly most: Ref.Ref<number>
  readonly interrupted: Ref.Ref<number>
  readonly release: Deferred.Deferred<void>
  /** What became of the promises that `Promised` has made. */
  readonly promises: Array<"pending" | "aborted">
}

export const makeSeen = Effect.all({
  running: Ref.make(0),
  most: Ref.make(0),
  interrupted: Ref.make(0),
  release: Deferred.make<void>(),
  promises: Effect.sync((): Seen["promises"] => [])
})

/** A promise that ends with the test at the latest, or when it is aborted. */
const promise = (seen: Seen, signal?: AbortSignal): Promise<void> => {
  const index = seen.promises.push("pending") - 1
  const aborted = new Promise<void>((resolve) =>
    signal?.addEventListener("abort", () => {
      seen.promises[index] = "aborted"
      resolve()
    })
  )
  return Promise.race([aborted, Effect.runPromise(Deferred.await(seen.release))])
}

const promised = (seen: Seen, how: typeof Promised.payloadSchema.Type["how"]): Effect.Effect<void> => {
  switch (how) {
    case "deaf":
      return Effect.promise(() => promise(seen))
    case "listening":
      return Effect.promise((signal) => promise(seen, signal))
    case "kept":
      return Effect.uninterruptible(Effect.promise(() => promise(seen)))
  }
}

export const workerOf = (seen: Seen) =>
  Worker.make({
    tasks: [
      Double,
      Fail,
      Die,
      Promised,
      Chain,
      Unencodable,
      Careless,
      Thoughtful,
      Once,
      Sleep,
      Itself,
      Untidy,
      Stubborn
    ],
    handlers: Layer.mergeAll(
      Double.toLayer(({ n }) => Effect.succeed(2 * n)),
      Fail.toLayer(({ final }) => Effect.fail(new Broken({ what: final ? "final" : "again" }))),
      Die.toLayer(() => Effect.die(new TypeError("boom\u0000"))),
      Promised.toLayer(({ how }) => promised(seen, how)),
      Chain.toLayer(() =>
        Effect.die(
          new Error("not saved", {
            cause: Object.assign(new Broken({ what: "the disk" }), { cause: { code: 28 } })
          })
        )
      ),
      Unencodable.toLayer(() => Effect.succeed(1n)),
      Careless.toLayer(() => Effect.fail(new Broken({ what: "careless" }))),
      Thoughtful.toLayer(() => Effect.fail(new Broken({ what: "thoughtful" }))),
      Once.toLayer(({ millis }) => Effect.andThen(Effect.sleep(millis), Effect.fail(new Broken({ what: "once" })))),
      Sleep.toLayer(({ millis }) =>
        Effect.gen(function*() {
          const running = yield* Ref.updateAndGet(seen.running, (n) => n + 1)
          yield* Ref.update(seen.most, (most) => Math.max(most, running))
          yield* Effect.sleep(millis)
        }).pipe(
          Effect.onInterrupt(() => Ref.update(seen.interrupted, (n) => n + 1)),
          Effect.ensuring(Ref.update(seen.running, (n) => n - 1))
        )
      ),
      Itself.toLayer(() =>
        Effect.withFiber((fiber) => {
          queueMicrotask(() => fiber.interruptUnsafe())
          return Effect.never
        })
      ),
      Untidy.toLayer(() => Effect.ensuring(Effect.never, Effect.die(new TypeError("not closed")))),
      Stubborn.toLayer(() => Effect.uninterruptible(Deferred.await(seen.release)))
    )
  })

/** Runs the body beside a supervisor over the memory broker, and drains it afterwards. */
export const serve = <A, E>(
  body: (seen: Seen) => Effect.Effect<A, E, Broker.Broker | Runner.Runner>,
  options: { readonly concurrency?: number; readonly sync?: boolean } = {}
) =>
  Effect.gen(function*() {
    const seen = yield* makeSeen
    const worker = workerOf(seen)
    const runner = options.sync === true ? InProcessRunner.layerSync(worker) : InProcessRunner.layer(worker)
    return yield* Effect.gen(function*() {
      const supervisor = yield* Effect.forkChild(
        Supervisor.run({ worker, concurrency: options.concurrency ?? 10, drain: "5 seconds" })
      )
      const result = yield* body(seen)
      yield* Deferred.succeed(seen.release, undefined)
      const stopping = yield* Effect.forkChild(Fiber.interrupt(supervisor))
      yield* TestClock.adjust("30 seconds")
      yield* Fiber.join(stopping)
      return result
    }).pipe(Effect.provide(runner))
  }).pipe(Effect.provide(MemoryBroker.layer))

export const attemptsOf = (id: string) => Effect.flatMap(Broker.Broker, (broker) => broker.attempts(id))
export const stateOf = (id: string) =>
  Effect.flatMap(Broker.Broker, (broker) => Effect.map(broker.read(id), (record) => Option.getOrThrow(record).state))

/** Moves time in small steps until the state is there. */
export const untilState = (id: string, state: Broker.State) =>
  Effect.gen(function*() {
    for (let step = 0; step < 1_000; step++) {
      if ((yield* stateOf(id)) === state) return
      yield* TestClock.adjust("100 millis")
    }
    assert.fail(`${id} is ${yield* stateOf(id)}, never became ${state}`)
  })

/** Moves time in small steps until there are so many. */
export const untilLength = (list: ReadonlyArray<unknown>, length: number) =>
  Effect.gen(function*() {
    for (let step = 0; step < 1_000; step++) {
      if (list.length >= length) return
      yield* TestClock.adjust("100 millis")
    }
    assert.fail(`there are ${list.length}, never ${length}`)
  })

/** Makes a suspect of the one execution of this task: two supervisors lose it. */
export const loseTwice = (task: string) =>
  Effect.gen(function*() {
    const broker = yield* Broker.Broker
    const lanes = [{ queue: "default", task }]
    const result = Envelope.taskError(new TaskError.Lost({ detail: "its host died" }))
    for (const supervisor of ["first", "second"]) {
      yield* broker.register({ supervisor, label: supervisor, lanes, lease: Duration.minutes(5) })
      const [{ fence, id }] = (yield* broker.claim({ supervisor, lanes, limit: 1 })) as [Broker.Claimed]
      const outcome = Outcome.Outcome.Lost({ result, counted: true, final: false })
      yield* broker.settle(supervisor, [{ id, fence, outcome, place: Option.none() }])
    }
  })

export const reasonOf = <A>(exit: Exit.Exit<A, unknown>): TaskError.Reason => {
  const error = Option.getOrThrow(Exit.findErrorOption(exit))
  assert(error instanceof TaskError.TaskError)
  return error.reason
}

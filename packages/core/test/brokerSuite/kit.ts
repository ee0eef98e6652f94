/**
 * What every part of the suite works with: a desk of its own, and workers hired for one test.
 *
 * Tests share a store, so each takes a queue and a task name nobody else has. Moving the
 * durable clock moves it for all of them: a worker left over from another test may lapse.
 */
import { assert, type Vitest } from "@effect/vitest"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import {
  type AttemptRecord,
  Broker,
  type Claimed,
  defaultPriority,
  type ExecutionId,
  type Lane,
  type NewExecution,
  type Record,
  type Wakeup
} from "../../src/Broker.ts"
import type { BrokerError, Reason } from "../../src/BrokerError.ts"
import * as Envelope from "../../src/Envelope.ts"
import { Outcome } from "../../src/Outcome.ts"
import * as TaskError from "../../src/TaskError.ts"

/** The test API of one part: tests see the broker and whatever else its layer provides. */
export type It<R> = Vitest.MethodsNonLive<Broker | R>

/** Moves the broker's durable clock. */
export type Advance<R> = (duration: Duration.Input) => Effect.Effect<void, never, Broker | R>

/** The lease of hired workers, long enough for the slowest test machine. */
export const lease = Duration.minutes(1)

/** Enough to lapse any lease of this suite. */
export const pastLease = Duration.minutes(2)

/** What a listener hears of these queues, in a queue that tests can take from. */
export const listenTo = Effect.fnUntraced(function*(broker: Broker["Service"], queues: ReadonlyArray<string>) {
  const wakeups = yield* Queue.unbounded<Wakeup>()
  yield* broker.listen(queues, (wakeup) => void Queue.offerUnsafe(wakeups, wakeup))
  return wakeups
})

export const uuid = (): string => SecureRandom.uuidV7Unsafe()

export const succeeded = (value = "42"): Outcome => Outcome.Succeeded({ result: Envelope.success(value) })

export const failed = (error = "\"no\""): Outcome => Outcome.Failed({ result: Envelope.failure(error) })

export const retry = (delay: Duration.Input = 0): Outcome =>
  Outcome.Retry({ result: Envelope.failure("\"again\""), delay: Duration.fromInputUnsafe(delay), confirmed: true })

export const lost = (options?: { readonly counted?: boolean; readonly final?: boolean }): Outcome =>
  Outcome.Lost({
    result: Envelope.taskError(new TaskError.Lost({ detail: "the host is gone" })),
    counted: options?.counted ?? true,
    final: options?.final ?? false
  })

export interface Worker {
  readonly id: string
  readonly claim: (limit?: number) => Effect.Effect<ReadonlyArray<Claimed>, BrokerError>
  /** Claims exactly one, or fails the test. */
  readonly claimOne: Effect.Effect<Claimed, BrokerError>
  readonly settle: (claimed: Pick<Claimed, "id" | "fence">, outcome: Outcome) => Effect.Effect<string, BrokerError>
  readonly tick: Effect.Effect<
    Effect.Success<ReturnType<Broker["Service"]["tick"]>>,
    BrokerError
  >
  readonly leave: Effect.Effect<void, BrokerError>
}

/** The duties that ends and returns of executions hang on. */
const prompt = ["reap", "expire"]

/** Ticks, and does what is due, whoever took a turn of it lately. */
export const tickAndKeepUp = (
  broker: Broker["Service"],
  options: Omit<Parameters<Broker["Service"]["tick"]>[0], "duties">
) =>
  Effect.tap(broker.tick({ ...options, duties: prompt }), ({ dueDuties }) =>
    Effect.forEach(
      broker.duties.filter(({ name }) => dueDuties.includes(name)),
      ({ perform }) => Effect.repeat(perform, { while: (more) => more }),
      { discard: true }
    ))

/** A queue, a task and helpers for one test. */
export const makeDesk = Effect.gen(function*() {
  const broker = yield* Broker
  const unique = uuid()
  const lane: Lane = { queue: `queue-${unique}`, task: `Task-${unique}` }

  const execution = (overrides?: Partial<NewExecution>): NewExecution => ({
    id: uuid(),
    task: lane.task,
    queue: lane.queue,
    priority: defaultPriority,
    payload: "{\"n\":1}",
    format: Envelope.format,
    due: { _tag: "Now" },
    maxAttempts: 3,
    timeout: Duration.minutes(10),
    startBy: Option.none(),
    idempotencyKey: Option.none(),
    atMostOnce: false,
    tags: {},
    traceparent: Option.none(),
    ...overrides
  })

  const enqueue = (overrides?: Partial<NewExecution>) =>
    Effect.map(broker.enqueue([execution(overrides)]), (answers) => answers[0]!.id)

  const enqueueMany = (count: number, overrides?: Partial<NewExecution>) =>
    Effect.map(
      broker.enqueue(Array.from({ length: count }, () => execution(overrides))),
      (answers) => answers.map((answer) => answer.id)
    )

  const read = (id: ExecutionId): Effect.Effect<Record, BrokerError> =>
    Effect.map(broker.read(id), Option.getOrThrowWith(() => new Error(`${id} is not known`)))

  /** Registers a supervisor until the test ends. */
  const hire = (options?: { readonly lanes?: ReadonlyArray<Lane>; readonly lease?: Duration.Duration }) =>
    Effect.gen(function*() {
      const id = uuid()
      const lanes = options?.lanes ?? [lane]
      const term = options?.lease ?? lease
      const leave = broker.unregister(id)
      yield* Effect.acquireRelease(
        broker.register({ supervisor: id, label: "suite", lanes, lease: term }),
        () => Effect.orDie(leave)
      )
      const claim = (limit = 10) => broker.claim({ supervisor: id, lanes, limit })
      const worker: Worker = {
        id,
        claim,
        claimOne: Effect.map(claim(1), (claimed) => {
          assert.strictEqual(claimed.length, 1, "claimed exactly one")
          return claimed[0]!
        }),
        settle: ({ fence, id: execution }, outcome) =>
          Effect.map(
            broker.settle(id, [{ id: execution, fence, outcome, place: Option.none() }]),
            (answers) => answers[0]!
          ),
        tick: tickAndKeepUp(broker, { supervisor: id, lanes, lease: term }),
        leave
      }
      return worker
    })

  /** A worker that holds one execution enqueued with these overrides. */
  const holding = (overrides?: Partial<NewExecution>) =>
    Effect.gen(function*() {
      const id = yield* enqueue(overrides)
      const worker = yield* hire()
      const claimed = yield* worker.claimOne
      assert.strictEqual(claimed.id, id)
      return { id, worker, claimed }
    })

  return { broker, lane, execution, enqueue, enqueueMany, read, hire, holding }
})

export type Desk = Effect.Success<typeof makeDesk>

/** Decodes a record's envelope and answers the reason of its `TaskError`, or `undefined` when it holds none. */
export const reasonOf = (record: Pick<Record, "id" | "task" | "result">) =>
  Effect.map(
    Envelope.decode({
      task: record.task,
      executionId: record.id,
      successSchema: Schema.Json,
      errorSchema: Schema.Json,
      envelope: Option.getOrThrow(record.result)
    }),
    (exit): TaskError.Reason | undefined => {
      const error = Option.getOrUndefined(Exit.findErrorOption(exit))
      return error instanceof TaskError.TaskError ? error.reason : undefined
    }
  )

/** The reason a broker operation is refused with. */
export const refusal = <A>(effect: Effect.Effect<A, BrokerError>): Effect.Effect<Reason, A> =>
  Effect.map(Effect.flip(effect), (error) => error.reason)

/** What an attempt came to, in short. */
export const summary = (attempts: ReadonlyArray<AttemptRecord>): ReadonlyArray<readonly [number, string]> =>
  attempts.map(({ attempt, outcome }) => [attempt, outcome])

/** Polls by process time, which moves even where the durable clock is a test's, until the condition holds. */
export const eventually = <E, R>(
  what: string,
  condition: Effect.Effect<boolean, E, R>
): Effect.Effect<void, E, R> =>
  Effect.gen(function*() {
    for (let tries = 0; tries < 1_000; tries++) {
      if (yield* condition) return
      yield* Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 10)))
    }
    assert.fail(`never happened: ${what}`)
  })

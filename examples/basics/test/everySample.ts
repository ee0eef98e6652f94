/**
 * What every broker and runner must make of the sample tasks. The tests of this folder run it on each of them.
 */
import { assert } from "@effect/vitest"
import { Cause, Effect, Exit, Schedule } from "effect"
import { Broker, Task } from "effect-ray"
import { Add, CpuIntensive, Echo, Failing, Multiply, Refused, Slow } from "../src/tasks.ts"

const addsAndMultiplies = Effect.gen(function*() {
  const sum = yield* Task.enqueue(Add, { a: 2, b: 0.5 })
  const product = yield* Task.enqueue(Multiply, { a: 6, b: 7 })
  assert.strictEqual(yield* sum.await, 2.5)
  assert.strictEqual(yield* product.await, 42)
})

const answersManyAtOnce = Effect.gen(function*() {
  const numbers = Array.from({ length: 200 }, (_, index) => index)
  const executions = yield* Task.enqueueAll(Add, numbers.map((n) => ({ a: n, b: n })))
  const sums = yield* Effect.forEach(executions, (execution) => execution.await, { concurrency: "unbounded" })
  assert.deepStrictEqual(sums, numbers.map((n) => 2 * n))
})

const echoesAnyJson = Effect.gen(function*() {
  const value = {
    text: "ünïcödé 🎈 \u2028 \"quoted\" \\ 'and' $1 --;",
    numbers: [0, 0.1, 1e21, -5],
    nothing: null,
    nested: { deep: [[[]], {}], ["__proto__"]: "a name like any other" }
  }
  const execution = yield* Task.enqueue(Echo, { value })
  assert.deepStrictEqual(yield* execution.await, value)
})

const countsPrimes = Effect.gen(function*() {
  const execution = yield* Task.enqueue(CpuIntensive, { limit: 200_000 })
  assert.deepStrictEqual(yield* execution.await, { primes: 17_984 })
})

const retriesUntilItSucceeds = Effect.gen(function*() {
  const execution = yield* Task.enqueue(Failing, { why: "not yet", failures: 2 })
  assert.strictEqual(yield* execution.await, 3)
  const attempts = yield* Broker.Broker.use((broker) => broker.attempts(execution.id))
  assert.deepStrictEqual(attempts.map(({ attempt, outcome }) => [attempt, outcome]), [
    [1, "retry"],
    [2, "retry"],
    [3, "succeeded"]
  ])
})

const failsWithItsDeclaredError = Effect.gen(function*() {
  const execution = yield* Task.enqueue(Failing, { why: "never", failures: 99 })
  const error = yield* Effect.flip(execution.await)
  assert.instanceOf(error, Refused)
  assert.isTrue(error instanceof Refused && error.why === "never" && error.attempt === 3)
})

const cancelsWhatRuns = Effect.gen(function*() {
  const broker = yield* Broker.Broker
  const execution = yield* Task.enqueue(Slow, { seconds: 3600 })
  yield* broker.read(execution.id).pipe(
    Effect.repeat({
      until: (record) => record._tag === "Some" && record.value.state === "running",
      schedule: Schedule.spaced("10 millis")
    })
  )
  assert.strictEqual(yield* execution.cancel, "Requested")
  const exit = yield* Effect.exit(execution.await)
  assert.isTrue(Exit.isFailure(exit))
  const error = Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined
  assert.isTrue(error instanceof Task.TaskError && error.reason._tag === "Cancelled" && error.reason.confirmed)
})

const sleeps = Effect.gen(function*() {
  const execution = yield* Task.enqueue(Slow, { seconds: 0.2 })
  assert.deepStrictEqual(yield* execution.await, { slept: 0.2 })
})

/** All of them, by what they show. */
export const samples: Readonly<Record<string, Effect.Effect<void, unknown, Broker.Broker>>> = {
  "add and multiply": addsAndMultiplies,
  "answer many at once": answersManyAtOnce,
  "echo any JSON": echoesAnyJson,
  "count primes": countsPrimes,
  sleep: sleeps,
  "are retried until they succeed": retriesUntilItSucceeds,
  "fail with their declared error": failsWithItsDeclaredError,
  "are cancelled while they run": cancelsWhatRuns
}

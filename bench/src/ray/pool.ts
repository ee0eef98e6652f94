/** Our side of the Ray rows: calls through the runner alone, and executions claimed from and settled in Postgres. */
import * as Broker from "@effect-ray/core/Broker"
import * as Runner from "@effect-ray/core/Runner"
import * as Supervisor from "@effect-ray/core/Supervisor"
import * as Task from "@effect-ray/core/Task"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import { randomUUID } from "node:crypto"
import { median } from "../Row.ts"
import { inFlight, latencyCalls } from "./load.ts"
import worker, { Echo, EchoMain } from "./worker.ts"

const warmUpCalls = 20_000
const throughputCalls = 40_000
const executions = 20_000

/** Executions in one statement. */
const chunk = 5_000

const attempt = (task: Task.Any): Runner.Attempt => ({
  execution: randomUUID(),
  fence: 1,
  task,
  queue: "default",
  priority: 5,
  attempt: 1,
  payload: "\"x\"",
  traceparent: Option.none(),
  suspect: false,
  onStart: () => {}
})

/** One call, acknowledged as a supervisor would do once it is settled. */
const call = (runner: Runner.Runner["Service"], task: Task.Any) =>
  Effect.suspend(() => {
    const one = attempt(task)
    return Effect.flatMap(runner.run(one), (ended) =>
      ended._tag === "Succeeded"
        ? runner.acknowledge([one])
        : Effect.die(new Error(`a call ended as ${ended._tag}`)))
  })

const calls = (runner: Runner.Runner["Service"], task: Task.Any, count: number) =>
  Effect.forEach(Array.from({ length: count }), () => call(runner, task), { concurrency: inFlight, discard: true })

/** Milliseconds, one call at a time. */
const p50 = Effect.fnUntraced(function*(task: Task.Any) {
  const runner = yield* Runner.Runner
  const times: Array<number> = []
  for (let n = 0; n < latencyCalls; n++) {
    const begin = performance.now()
    yield* call(runner, task)
    times.push(performance.now() - begin)
  }
  return median(times)
})

/** With the handler on the host's main thread. */
export const p50Main = p50(EchoMain)

/** With the handler in a handler thread, the default. */
export const p50Thread = p50(Echo)

/** Starts the hosts and lets the compilers settle, for many calls at once and for single ones. */
export const warmUp = Effect.gen(function*() {
  const runner = yield* Runner.Runner
  for (const task of [Echo, EchoMain]) {
    yield* calls(runner, task, warmUpCalls)
    yield* p50(task)
  }
})

/** Calls a second. */
export const throughput = Effect.gen(function*() {
  const runner = yield* Runner.Runner
  const begin = performance.now()
  yield* calls(runner, Echo, throughputCalls)
  return (throughputCalls / (performance.now() - begin)) * 1_000
})

/** Executions a second, from the worker's start until the last one is in history. */
export const drain = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const broker = yield* Broker.Broker
  for (let first = 0; first < executions; first += chunk) {
    yield* Task.enqueueAll(Echo, Array.from({ length: chunk }, () => "x")).pipe(
      Effect.provideService(Broker.Broker, broker)
    )
  }
  yield* sql`VACUUM ANALYZE effect_ray.executions`
  const begin = performance.now()
  const supervisor = yield* Effect.forkChild(Supervisor.run({ worker, concurrency: inFlight }))
  const empty = Effect.map(
    sql<{ readonly empty: boolean }>`SELECT NOT EXISTS (SELECT FROM effect_ray.executions) AS empty`,
    ([row]) => row!.empty
  )
  yield* Effect.repeat(empty, { until: (empty) => empty, schedule: Schedule.spaced("5 millis") })
  const rate = (executions / (performance.now() - begin)) * 1_000
  yield* Fiber.interrupt(supervisor)
  return rate
})

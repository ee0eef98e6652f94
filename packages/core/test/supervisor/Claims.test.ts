/** What is claimed, and what becomes of answers that are lost and of rows that cannot be read. */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Fiber, Latch, Option, Ref } from "effect"
import { TestClock } from "effect/testing"
import {
  Broker,
  BrokerError,
  InProcessRunner,
  Limits,
  MemoryBroker,
  Supervisor,
  Task,
  Worker
} from "../../src/index.ts"
import { Double, Sleep, makeSeen, workerOf, attemptsOf, untilState } from "./fixtures.ts"

describe("Supervisor: claims", () => {
  it.effect("refuses options that make no sense", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const refused = (options: Partial<Supervisor.Options>) =>
        Effect.map(
          Effect.exit(Supervisor.run({ worker, concurrency: 1, ...options })),
          (exit) => Exit.isFailure(exit) ? String(Cause.squash(exit.cause)) : "accepted"
        )
      assert.include(yield* refused({ concurrency: 0 }), "Supervisor.run: concurrency is 0")
      assert.include(yield* refused({ concurrency: Number.NaN }), "concurrency is NaN")
      assert.include(yield* refused({ lease: 0 }), "lease is 0: expected a duration from 1s")
      assert.include(yield* refused({ lease: Infinity }), "lease is Infinity")
      assert.include(yield* refused({ drain: "soon" as never }), "drain is \"soon\"")
    }).pipe(Effect.provide(InProcessRunner.layer(Worker.make({ tasks: [] }))), Effect.provide(MemoryBroker.layer)))

  it.effect("finds what a claim took whose answer was lost", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const cut = yield* Ref.make(1)
      const lost = new BrokerError.BrokerError({
        reason: new BrokerError.Unavailable({ operation: "claim", detail: "the connection was cut" })
      })
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) =>
          Effect.flatMap(real.claim(options), (claimed) =>
            Effect.flatMap(
              Ref.getAndUpdate(cut, (n) => claimed.length > 0 ? n - 1 : n),
              (n) => claimed.length > 0 && n > 0 ? Effect.fail(lost) : Effect.succeed(claimed)
            ))
      })
      const executions = yield* Task.enqueueAll(Double, [{ n: 1 }, { n: 2 }])
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* Effect.forEach(executions, (execution) => untilState(execution.id, "succeeded"), { discard: true })
      for (const execution of executions) assert.lengthOf(yield* attemptsOf(execution.id), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("finds what it owns when a settlement of the same fence was refused", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      let refused = 0
      // As after a crash of the store that undid the claim: refused, then claimed again under the same fence.
      const broker = Broker.Broker.of({
        ...real,
        settle: (supervisor, settlements) =>
          refused++ === 0
            ? Effect.succeed(settlements.map(() => "LeaseLost" as const))
            : real.settle(supervisor, settlements)
      })
      const execution = yield* Task.enqueue(Double, { n: 1 })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      yield* untilState(execution.id, "succeeded")
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("asks again what it owns when a settlement is refused while it asks", () =>
    Effect.gen(function*() {
      const worker = workerOf(yield* makeSeen)
      const real = yield* Broker.Broker
      const cut = new BrokerError.BrokerError({
        reason: new BrokerError.Unavailable({ operation: "claim", detail: "the connection was cut" })
      })
      const asked = yield* Latch.make(false)
      const refused = yield* Latch.make(false)
      let claims = 0
      let settlements = 0
      const broker = Broker.Broker.of({
        ...real,
        // The answer to the second claim that took something is lost.
        claim: (options) =>
          Effect.flatMap(real.claim(options), (claimed) =>
            claimed.length > 0 && ++claims === 2 ? Effect.fail(cut) : Effect.succeed(claimed)),
        owned: (supervisor) =>
          Effect.tap(real.owned(supervisor), Effect.andThen(asked.open, refused.await)),
        settle: (supervisor, batch) =>
          settlements++ === 0
            ? Effect.as(Effect.andThen(asked.await, refused.open), batch.map(() => "LeaseLost" as const))
            : real.settle(supervisor, batch)
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const first = yield* Task.enqueue(Double, { n: 1 })
      yield* untilState(first.id, "running")
      const second = yield* Task.enqueue(Double, { n: 2 })
      yield* untilState(second.id, "succeeded")
      yield* untilState(first.id, "succeeded")
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("refuses to begin with a limit that no row can carry", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      for (const reference of [Limits.MaxResultBytes, Limits.MaxPayloadBytes]) {
        const exit = yield* Effect.exit(
          Supervisor.run({ worker, concurrency: 1 }).pipe(
            Effect.provide(InProcessRunner.layer(worker)),
            Effect.provideService(reference, Limits.maxCarriedBytes + 1)
          )
        )
        assert.match(
          Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "",
          /Supervisor\.run: Limits\.Max\w+Bytes is 7340033/
        )
      }
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("ends as failed what is stored in a format that it does not know, or over its limit of payloads", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const broker = yield* Broker.Broker
      const past = yield* Task.enqueue(Double, { n: 1 })
      const record = Option.getOrThrow(yield* broker.read(past.id))
      yield* past.cancel
      const row = {
        id: "",
        task: record.task,
        queue: record.queue,
        priority: 5,
        due: { _tag: "Now" } as const,
        maxAttempts: 3,
        timeout: Duration.minutes(1),
        startBy: Option.none(),
        idempotencyKey: Option.none(),
        atMostOnce: false,
        tags: {},
        traceparent: Option.none()
      }
      const future = { ...row, id: "00000000-0000-7000-8000-000000000001", payload: "{\"n\":1}", format: 999 }
      const large = {
        ...row,
        id: "00000000-0000-7000-8000-000000000002",
        payload: `{"n":1,"x":"${"x".repeat(3_000_000)}"}`,
        format: 1
      }
      yield* broker.enqueue([future, large])
      const supervisor = yield* Supervisor.run({ worker, concurrency: 2 }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      for (
        const [id, words] of [[future.id, /format 999.*format 1: a newer version/], [
          large.id,
          /3000014 bytes and/
        ]] as const
      ) {
        yield* untilState(id, "failed")
        const error = yield* Effect.flip((yield* Task.execution(Double, id)).await)
        assert.match(String(error), words)
        assert.strictEqual(error._tag === "TaskError" && error.reason._tag, "Undecodable")
      }
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("takes bad data for what it is: it says so, and goes on with everything else", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      const bad = (operation: string) =>
        Effect.fail(
          new BrokerError.BrokerError({ reason: new BrokerError.BadData({ operation, detail: "a row of stone" }) })
        )
      let [claims, settlements, asked] = [0, 0, 0]
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) => claims++ < 2 ? bad("claim") : real.claim(options),
        owned: (id) => asked++ === 0 ? bad("owned") : real.owned(id),
        settle: (id, batch) => settlements++ === 0 ? bad("settle") : real.settle(id, batch)
      })
      const executions = [...yield* Task.enqueueAll(Double, [{ n: 1 }, { n: 2 }])]
      const supervisor = yield* Supervisor.run({ worker, concurrency: 1 }).pipe(
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.provideService(Broker.Broker, broker),
        Effect.forkChild
      )
      // What is not recorded is not run again: it stays with its owner until that one leaves.
      yield* TestClock.adjust("30 seconds")
      executions.push(yield* Task.enqueue(Double, { n: 3 }))
      yield* TestClock.adjust("30 seconds")
      const states = yield* Effect.forEach(executions, ({ id }) => Effect.map(real.read(id), Option.getOrThrow))
      assert.deepStrictEqual(states.map(({ state }) => state), ["running", "running", "succeeded"])
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))

  it.effect("goes on with an attempt whose claim a crash of the store undid, and starts no other", () =>
    Effect.gen(function*() {
      const seen = yield* makeSeen
      const worker = workerOf(seen)
      const real = yield* Broker.Broker
      let undone: Array<Broker.Claimed> = []
      const broker = Broker.Broker.of({
        ...real,
        claim: (options) =>
          undone.length > 0
            ? Effect.sync(() => undone.splice(0))
            : Effect.tap(real.claim(options), (claimed) => Effect.sync(() => undone = [...claimed]))
      })
      const supervisor = yield* Supervisor.run({ worker, concurrency: 10 }).pipe(
        Effect.provideService(Broker.Broker, broker),
        Effect.provide(InProcessRunner.layer(worker)),
        Effect.forkChild
      )
      const execution = yield* Task.enqueue(Sleep, { millis: 2_000 })
      yield* untilState(execution.id, "succeeded")
      assert.isEmpty(undone)
      assert.strictEqual(yield* Ref.get(seen.most), 1)
      assert.lengthOf(yield* attemptsOf(execution.id), 1)
      yield* Fiber.interrupt(supervisor)
    }).pipe(Effect.provide(MemoryBroker.layer)))
})

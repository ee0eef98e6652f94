/** Rows that an open transaction of somebody else holds: what they keep waiting, and what they do not. */
import { Broker, InProcessRunner, Supervisor, Task, Worker } from "@effect-ray/core"
import { assert, layer } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { database, eventually, execution, hire, makeLane } from "./kit.ts"
import * as TestPostgres from "./TestPostgres.ts"

/** Locks executions in a transaction of its own, until it is told to end or the test ends. */
const lock = Effect.fnUntraced(function*(ids: ReadonlyArray<string>) {
  const { s, sql } = yield* database
  const open = yield* Deferred.make<void>()
  const locked = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkScoped(sql.withTransaction(Effect.gen(function*() {
    for (const id of ids) yield* sql`SELECT FROM ${s}.executions WHERE id = ${id} FOR UPDATE`
    yield* Deferred.succeed(locked, undefined)
    yield* Deferred.await(open)
  })))
  yield* Deferred.await(locked)
  return { end: Effect.andThen(Deferred.succeed(open, undefined), Fiber.join(fiber)) }
})

class Slow extends Task.make("Slow", {
  payload: { n: Schema.Int },
  success: Schema.Int,
  queue: "locks"
}) {}

for (const version of TestPostgres.versions) {
  layer(TestPostgres.layer(version), { excludeTestServices: true })(`Locked rows, on Postgres ${version}`, (it) => {
    const stateOf = (id: string) =>
      Effect.flatMap(
        Broker.Broker,
        (broker) => Effect.map(broker.read(id), (record) => Option.getOrThrow(record).state)
      )
    const becomes = (id: string, state: string) =>
      eventually(`${id} is ${state}`, Effect.map(stateOf(id), (now) => now === state))

    it.effect("keep no other end of their worker waiting, and are settled when they are free", () =>
      Effect.gen(function*() {
        const open = yield* Deferred.make<void>()
        const worker = Worker.make({
          tasks: [Slow],
          handlers: Slow.toLayer(({ n }) => Effect.as(n === 0 ? Deferred.await(open) : Effect.void, n))
        })
        yield* Effect.forkScoped(
          Supervisor.run({ worker, concurrency: 4 }).pipe(Effect.provide(InProcessRunner.layer(worker)))
        )
        const first = yield* Task.enqueue(Slow, { n: 0 })
        yield* becomes(first.id, "running")
        for (const round of [1, 2]) {
          const held = yield* lock([first.id])
          if (round === 1) yield* Deferred.succeed(open, undefined)
          for (let n = 1; n <= 20; n++) {
            const execution = yield* Task.enqueue(Slow, { n })
            assert.strictEqual(yield* execution.await, n)
          }
          assert.strictEqual(yield* stateOf(first.id), "running")
          yield* held.end
        }
        assert.strictEqual(yield* first.await, 0)
      }).pipe(Effect.scoped))

    it.effect("are told of in the order given, and can be settled later", () =>
      Effect.gen(function*() {
        const broker = yield* Broker.Broker
        const lane = makeLane()
        const worker = yield* hire(broker, [lane])
        yield* broker.enqueue(Array.from({ length: 4 }, () => execution(lane)))
        const claimed = yield* worker.claim()
        const held = yield* lock([claimed[1]!.id, claimed[3]!.id])
        const stale = { ...claimed[3]!, fence: claimed[3]!.fence + 1 }
        const given = [claimed[3]!, claimed[2]!, stale, claimed[1]!, claimed[0]!]
        assert.deepStrictEqual(
          yield* worker.succeed(given),
          ["Locked", "Settled", "LeaseLost", "Locked", "Settled"]
        )
        assert.deepStrictEqual(yield* worker.succeed([claimed[3]!]), ["Locked"])
        yield* held.end
        assert.deepStrictEqual(
          yield* worker.succeed(given),
          ["Settled", "Settled", "LeaseLost", "Settled", "Settled"]
        )
      }).pipe(Effect.scoped))

    it.effect("stay with a worker that is gone until they are free, and keep no other there", () =>
      Effect.gen(function*() {
        const broker = yield* Broker.Broker
        const lane = makeLane()
        const gone = yield* hire(broker, [lane], Duration.minutes(1))
        const other = yield* hire(broker, [lane], Duration.hours(10))
        yield* broker.enqueue(Array.from({ length: 3 }, () => execution(lane)))
        const [first, second, third] = yield* gone.claim()
        const held = yield* lock([first!.id])
        yield* TestPostgres.advance("2 minutes")
        yield* other.tick
        assert.deepStrictEqual((yield* other.claim()).map(({ id }) => id), [second!.id, third!.id])
        yield* other.tick
        yield* held.end
        yield* TestPostgres.advance("1 minute")
        yield* other.tick
        assert.deepStrictEqual((yield* other.claim()).map(({ id, losses }) => [id, losses]), [[first!.id, 1]])
      }).pipe(Effect.scoped))

    it.effect("keep a worker that leaves waiting for a while, and no other execution with it", () =>
      Effect.gen(function*() {
        const broker = yield* Broker.Broker
        const lane = makeLane()
        const leaving = yield* hire(broker, [lane], Duration.minutes(1))
        const other = yield* hire(broker, [lane], Duration.hours(10))
        yield* broker.enqueue(Array.from({ length: 2 }, () => execution(lane)))
        const [first, second] = yield* leaving.claim()
        const held = yield* lock([first!.id])
        const left = yield* Effect.forkScoped(broker.unregister(leaving.supervisor))
        yield* becomes(second!.id, "queued")
        assert.deepStrictEqual((yield* other.claim()).map(({ id }) => id), [second!.id])
        yield* held.end
        yield* Fiber.join(left)
        assert.deepStrictEqual((yield* other.claim()).map(({ id, losses }) => [id, losses]), [[first!.id, 0]])

        // The second time it does not become free, and goes back when the lease has lapsed.
        const again = yield* hire(broker, [lane], Duration.minutes(1))
        yield* broker.enqueue([execution(lane)])
        const [third] = yield* again.claim()
        const heldAgain = yield* lock([third!.id])
        const error = yield* Effect.flip(broker.unregister(again.supervisor))
        assert.include(error.message, "other transactions hold executions of this supervisor")
        yield* heldAgain.end
        yield* TestPostgres.advance("2 minutes")
        yield* other.tick
        assert.deepStrictEqual((yield* other.claim()).map(({ id }) => id), [third!.id])
      }).pipe(Effect.scoped))

    it.effect("keep nobody waiting who awaits another", () =>
      Effect.gen(function*() {
        const broker = yield* Broker.Broker
        const lane = makeLane()
        const worker = yield* hire(broker, [lane])
        yield* broker.enqueue(Array.from({ length: 3 }, () => execution(lane)))
        const [first, second, third] = yield* worker.claim()
        const held = yield* lock([first!.id])
        const waiter = yield* Effect.forkScoped(broker.awaitTerminal(first!.id), { startImmediately: true })
        yield* worker.succeed([second!])
        for (const { id } of [second!, third!]) {
          const other = yield* Effect.forkScoped(broker.awaitTerminal(id), { startImmediately: true })
          yield* worker.succeed([third!])
          assert.strictEqual(Option.getOrThrow(yield* Fiber.join(other)).state, "succeeded")
        }
        assert.isUndefined(waiter.pollUnsafe())
        yield* held.end
        assert.deepStrictEqual(yield* worker.succeed([first!]), ["Settled"])
        assert.strictEqual(Option.getOrThrow(yield* Fiber.join(waiter)).state, "succeeded")
      }).pipe(Effect.scoped, Effect.timeout("60 seconds")))

    it.effect("are cancelled when they are free, and keep no other cancellation, pause or duty waiting", () =>
      Effect.gen(function*() {
        const broker = yield* Broker.Broker
        const lane = makeLane()
        const given = Array.from({ length: 6 }, () => execution(lane))
        yield* broker.enqueue(given)
        const ids = given.map(({ id }) => id)
        const held = yield* lock(ids.slice(0, 5))
        const cancels = yield* Effect.forEach(
          ids.slice(0, 5),
          (id) => Effect.forkScoped(broker.cancel(id), { startImmediately: true })
        )
        assert.strictEqual(yield* broker.cancel(ids[5]!), "Cancelled")
        assert.isTrue(yield* broker.pause({ queue: lane.queue }))
        assert.isTrue(yield* broker.resume({ queue: lane.queue }))
        for (const { perform } of broker.duties) yield* perform
        assert.deepStrictEqual(cancels.map((fiber) => fiber.pollUnsafe()), cancels.map(() => undefined))
        yield* held.end
        for (const fiber of cancels) assert.strictEqual(yield* Fiber.join(fiber), "Cancelled")
      }).pipe(Effect.scoped))

    it.effect("keep the executions of no other worker that is gone, however many workers have some", () =>
      Effect.gen(function*() {
        const broker = yield* Broker.Broker
        const lane = makeLane()
        const gone = yield* Effect.forEach(Array.from({ length: 22 }), () => hire(broker, [lane], Duration.minutes(1)))
        const other = yield* hire(broker, [lane], Duration.hours(10))
        yield* broker.enqueue(Array.from({ length: 22 }, () => execution(lane)))
        const ids = yield* Effect.forEach(gone, ({ claim }) => Effect.map(claim(1), ([claimed]) => claimed!.id))
        const held = yield* lock(ids.slice(0, 20))
        yield* TestPostgres.advance("2 minutes")
        const found: Array<string> = []
        yield* eventually(
          "what is free comes back",
          Effect.gen(function*() {
            yield* TestPostgres.advance("2 seconds")
            yield* other.tick
            found.push(...(yield* other.claim()).map(({ id }) => id))
            return found.length === 2
          })
        )
        assert.deepStrictEqual(found.sort(), ids.slice(20).sort())
        yield* held.end
      }).pipe(Effect.scoped))
  })
}

/** How callers and supervisors learn that something happened. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type { ExecutionId, Record, Wakeup } from "../../src/Broker.ts"
import { type Advance, type It, listenTo, makeDesk, pastLease, retry, succeeded, uuid } from "./kit.ts"

/** Takes wake-ups until one of the kind comes; a Resync stands for all of them. */
const takeUntil = (queue: Queue.Dequeue<Wakeup>, wanted: (wakeup: Wakeup) => boolean) =>
  Effect.gen(function*() {
    for (;;) {
      const wakeup = yield* Queue.take(queue)
      if (wakeup._tag === "Resync" || wanted(wakeup)) return wakeup
    }
  })

const stateOf = Option.match({ onNone: () => "unknown", onSome: (record: Record) => record.state })

export const watchPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("awaitTerminal", () => {
    it.effect("answers at once what is over already", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.settle(claimed, succeeded())
        assert.deepStrictEqual(yield* desk.broker.awaitTerminal(id), Option.some(yield* desk.read(id)))
      }))

    it.effect("answers None for an id that is not known", () =>
      Effect.gen(function*() {
        const { broker } = yield* makeDesk
        assert.isTrue(Option.isNone(yield* broker.awaitTerminal(uuid())))
      }))

    it.effect("wakes every waiter when the execution succeeds, and not before", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const waiters = yield* Effect.forEach(
          Array.from({ length: 20 }),
          () => Effect.forkChild(desk.broker.awaitTerminal(id), { startImmediately: true })
        )
        yield* worker.settle(claimed, retry())
        const again = yield* worker.claimOne
        assert.isTrue(waiters.every((waiter) => waiter.pollUnsafe() === undefined))
        yield* worker.settle(again, succeeded("7"))
        const record = Option.some(yield* desk.read(id))
        for (const waiter of waiters) assert.deepStrictEqual(yield* Fiber.join(waiter), record)
      }))

    it.effect("wakes when the execution is cancelled, expires or is lost", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const wait = (id: ExecutionId) => Effect.forkChild(desk.broker.awaitTerminal(id), { startImmediately: true })
        const { id: lostId } = yield* desk.holding({ atMostOnce: true })
        const cancelledId = yield* desk.enqueue()
        const expiredId = yield* desk.enqueue({
          startBy: Option.some({ _tag: "After", delay: Duration.seconds(30) })
        })
        const waiters = [yield* wait(lostId), yield* wait(cancelledId), yield* wait(expiredId)]
        yield* desk.broker.cancel(cancelledId)
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        const records = yield* Effect.forEach(waiters, Fiber.join)
        assert.deepStrictEqual(records.map(stateOf), ["lost", "cancelled", "expired"])
      }))

    it.effect("misses none of many that end at once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* desk.enqueueMany(200)
        const worker = yield* desk.hire()
        const waiters = yield* Effect.forkChild(
          Effect.forEach(ids, desk.broker.awaitTerminal, { concurrency: "unbounded" }),
          { startImmediately: true }
        )
        for (let rounds = 0; rounds < 20; rounds++) {
          const claimed = yield* worker.claim(10)
          yield* desk.broker.settle(
            worker.id,
            claimed.map(({ fence, id }) => ({ id, fence, outcome: succeeded(), place: Option.none() }))
          )
        }
        const records = yield* Fiber.join(waiters)
        assert.isTrue(records.every((record) => stateOf(record) === "succeeded"))
      }))
  })

  describe("wakeups", () => {
    it.effect("tell of an enqueue into a queue", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { queue } = desk.lane
        const wakeups = yield* listenTo(desk.broker, [queue])
        yield* desk.enqueue()
        yield* takeUntil(wakeups, (wakeup) => wakeup._tag === "Enqueued" && wakeup.queue === queue)
        yield* desk.enqueueMany(100)
        yield* takeUntil(wakeups, (wakeup) => wakeup._tag === "Enqueued" && wakeup.queue === queue)
      }))

    it.effect("tell of a cancel request for a running execution", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id } = yield* desk.holding()
        const wakeups = yield* listenTo(desk.broker, [desk.lane.queue])
        yield* desk.broker.cancel(id)
        yield* takeUntil(wakeups, (wakeup) => wakeup._tag === "Cancelling" && wakeup.id === id)
      }))

    it.effect("reach every subscriber, and end with their scopes", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { queue } = desk.lane
        yield* Effect.scoped(listenTo(desk.broker, [queue]))
        const [one, other] = [yield* listenTo(desk.broker, [queue]), yield* listenTo(desk.broker, [queue, "elsewhere"])]
        yield* desk.enqueue()
        for (const each of [one, other]) {
          yield* takeUntil(each, (wakeup) => wakeup._tag === "Enqueued" && wakeup.queue === queue)
        }
      }))
  })

  describe("tick", () => {
    it.effect("tells when the next execution of its lanes is due", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        assert.isTrue(Option.isNone((yield* worker.tick).nextDue))
        yield* desk.enqueue({ due: { _tag: "After", delay: Duration.hours(2) }, priority: 9 })
        yield* desk.enqueue({ due: { _tag: "After", delay: Duration.seconds(30) }, priority: 1 })
        yield* desk.enqueue({ task: `Other-${uuid()}` })
        const nextDue = Duration.toSeconds(Option.getOrThrow((yield* worker.tick).nextDue))
        assert.isAbove(nextDue, 1)
        assert.isAtMost(nextDue, 30)
        yield* advance("31 seconds")
        assert.deepStrictEqual((yield* worker.tick).nextDue, Option.some(Duration.zero))
        assert.strictEqual((yield* worker.claim()).length, 1)
        assert.isAbove(Duration.toMinutes(Option.getOrThrow((yield* worker.tick).nextDue)), 100)
      }))

    it.effect("of a supervisor that never registered says that it is not alive", () =>
      Effect.gen(function*() {
        const { broker, lane } = yield* makeDesk
        const tick = yield* broker.tick({ supervisor: uuid(), lanes: [lane], lease: Duration.minutes(1), duties: [] })
        assert.isFalse(tick.alive)
        assert.deepStrictEqual(tick.cancelling, [])
      }))
  })
}

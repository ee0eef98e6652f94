/** Queues and tasks that are paused. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import type { Pausable } from "../../src/Broker.ts"
import { type Advance, type It, lease, listenTo, makeDesk, pastLease, retry, succeeded, uuid } from "./kit.ts"

export const pausePromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("pause", () => {
    for (const kind of ["queue", "task"] as const) {
      it.effect(`of a ${kind} is told by a tick, with its name on what waits, and again when it is resumed`, () =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const { broker, lane } = desk
          const other = { queue: `other-${uuid()}`, task: `Other-${uuid()}` }
          const worker = yield* desk.hire({ lanes: [lane, other] })
          const id = yield* desk.enqueue()
          const what: Pausable = kind === "queue" ? { queue: lane.queue } : { task: lane.task }
          for (let again = 0; again < 2; again++) {
            assert.deepStrictEqual((yield* worker.tick).paused, [])
            assert.isTrue(yield* broker.pause(what))
            assert.isFalse(yield* broker.pause(what))
            assert.deepStrictEqual((yield* worker.tick).paused, [lane])
            assert.deepStrictEqual((yield* desk.read(id)).held, Option.some(`its ${kind} is paused`))
            assert.isTrue(yield* broker.resume(what))
            assert.isFalse(yield* broker.resume(what))
            assert.deepStrictEqual((yield* desk.read(id)).held, Option.none())
          }
          assert.deepStrictEqual((yield* worker.tick).paused, [])
          assert.strictEqual((yield* worker.claimOne).id, id)
        }))
    }

    it.effect("lets what runs go on, and what comes back wait", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { broker, lane } = desk
        yield* desk.enqueueMany(2)
        const worker = yield* desk.hire()
        const [first, second] = yield* worker.claim()
        yield* broker.pause({ queue: lane.queue })
        assert.strictEqual(yield* worker.settle(first!, succeeded()), "Settled")
        assert.strictEqual(yield* worker.settle(second!, retry()), "Settled")
        assert.strictEqual((yield* desk.read(first!.id)).state, "succeeded")
        assert.deepStrictEqual((yield* desk.read(second!.id)).held, Option.some("its queue is paused"))
        assert.strictEqual(yield* broker.cancel(second!.id), "Cancelled")
        yield* broker.resume({ queue: lane.queue })
      }))

    it.effect("holds for lanes that come later, and for supervisors that do", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { broker, lane } = desk
        yield* broker.pause({ task: lane.task })
        const elsewhere = { ...lane, queue: `elsewhere-${uuid()}` }
        const worker = yield* desk.hire({ lanes: [lane, elsewhere] })
        assert.sameDeepMembers([...(yield* worker.tick).paused], [lane, elsewhere])
        // It outlives leases.
        yield* advance(pastLease)
        const later = yield* desk.hire({ lanes: [elsewhere] })
        assert.deepStrictEqual((yield* later.tick).paused, [elsewhere])
        yield* broker.resume({ task: lane.task })
        assert.deepStrictEqual((yield* later.tick).paused, [])
      }))

    it.effect("wakes supervisors, whatever queues they listen to", () =>
      Effect.gen(function*() {
        const { broker, lane } = yield* makeDesk
        const wakeups = yield* listenTo(broker, [lane.queue])
        yield* Queue.clear(wakeups)
        const heard = Effect.repeat(Queue.take(wakeups), { until: ({ _tag }) => _tag === "Paused" })
        yield* broker.pause({ task: lane.task })
        yield* heard
        yield* broker.resume({ task: lane.task })
        yield* heard
      }))

    it.effect("tells nothing to a supervisor that is not alive", () =>
      Effect.gen(function*() {
        const { broker, lane } = yield* makeDesk
        yield* broker.pause({ queue: lane.queue })
        const tick = yield* broker.tick({ supervisor: uuid(), lanes: [lane], lease, duties: [] })
        assert.deepStrictEqual(tick.paused, [])
        yield* broker.resume({ queue: lane.queue })
      }))
  })
}

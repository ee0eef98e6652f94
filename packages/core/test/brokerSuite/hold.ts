/** What a supervisor takes of its lanes, and what it says of those it leaves alone. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Outcome } from "../../src/Outcome.ts"
import { type Advance, type It, makeDesk, succeeded, uuid } from "./kit.ts"

/** Two lanes of one queue, and how many of each a claim took. */
const twoLanes = Effect.gen(function*() {
  const desk = yield* makeDesk
  const other = { queue: desk.lane.queue, task: `Other-${uuid()}` }
  const worker = yield* desk.hire({ lanes: [desk.lane, other] })
  const count = (claimed: ReadonlyArray<{ readonly task: string }>) => [
    claimed.filter(({ task }) => task === desk.lane.task).length,
    claimed.filter(({ task }) => task === other.task).length
  ]
  return { ...desk, other, worker, count }
})

export const holdPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("hold", () => {
    it.effect("takes no more of a lane than the claim says, and the rest from others", () =>
      Effect.gen(function*() {
        const { broker, count, enqueueMany, lane, other, worker } = yield* twoLanes
        yield* enqueueMany(20, { priority: 9 })
        yield* enqueueMany(20, { task: other.task, priority: 1 })
        const claim = (limit: number, most: number) =>
          Effect.map(broker.claim({ supervisor: worker.id, lanes: [{ ...lane, limit: most }, other], limit }), count)
        assert.deepStrictEqual(yield* claim(10, 3), [3, 7])
        assert.deepStrictEqual(yield* claim(2, 5), [2, 0])
        // What a limit left behind is found by the next claim, at once.
        assert.deepStrictEqual(yield* claim(10, 1), [1, 9])
        assert.deepStrictEqual(yield* claim(50, 50), [14, 4])
        assert.deepStrictEqual(yield* claim(50, 50), [0, 0])
      }))

    it.effect("leaves a lane alone that the claim does not name, and finds it later", () =>
      Effect.gen(function*() {
        const { broker, count, enqueueMany, lane, other, worker } = yield* twoLanes
        yield* enqueueMany(5)
        yield* enqueueMany(5, { task: other.task })
        const claim = (lanes: ReadonlyArray<typeof lane>) =>
          Effect.map(broker.claim({ supervisor: worker.id, lanes, limit: 50 }), count)
        assert.deepStrictEqual(yield* claim([other]), [0, 5])
        assert.deepStrictEqual(yield* claim([other]), [0, 0])
        assert.deepStrictEqual(yield* claim([lane, other]), [5, 0])
      }))

    it.effect("puts back what never began, and records no attempt of it", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ atMostOnce: true })
        const before = yield* desk.read(id)
        assert.strictEqual(yield* worker.settle(claimed, Outcome.Returned()), "Settled")
        const { attempts, fence, losses, runAt, state } = yield* desk.read(id)
        assert.deepStrictEqual([state, attempts, losses, runAt], ["queued", 0, 0, before.runAt])
        assert.isAbove(fence, claimed.fence)
        assert.deepStrictEqual(yield* desk.broker.attempts(id), [])
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "LeaseLost")
        assert.strictEqual((yield* worker.claimOne).attempt, 1)
      }))

    it.effect("says of queued executions why their lane is held back, while it is", () =>
      Effect.gen(function*() {
        const { broker, enqueue, lane, other, read, worker } = yield* twoLanes
        const [id, bystander] = [yield* enqueue(), yield* enqueue({ task: other.task })]
        const held = (id: string) => Effect.map(read(id), (record) => Option.getOrUndefined(record.held))
        const hold = (reason: string | undefined) =>
          broker.hold({ supervisor: worker.id, lanes: [lane], reason: Option.fromUndefinedOr(reason), givenUp: false })
        assert.isUndefined(yield* held(id))
        yield* hold("no host starts")
        assert.strictEqual(yield* held(id), "no host starts")
        assert.isUndefined(yield* held(bystander))
        assert.strictEqual(yield* held(yield* enqueue()), "no host starts", "of those that come later too")
        yield* hold("the cluster is full")
        assert.strictEqual(yield* held(id), "the cluster is full")
        const [claimed] = yield* broker.claim({ supervisor: worker.id, lanes: [lane], limit: 1 })
        assert.isUndefined(yield* held(claimed!.id), "what runs is not held back")
        yield* worker.settle(claimed!, Outcome.Returned())
        yield* hold(undefined)
        assert.isUndefined(yield* held(id))
      }))

    it.effect("forgets what a supervisor said when it leaves or lapses, and heeds none that is not there", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const id = yield* desk.enqueue()
        const held = Effect.map(desk.read(id), (record) => Option.getOrUndefined(record.held))
        const hold = (supervisor: string) =>
          desk.broker.hold({ supervisor, lanes: [desk.lane], reason: Option.some("no host starts"), givenUp: false })
        const leaving = yield* desk.hire()
        yield* hold(leaving.id)
        assert.strictEqual(yield* held, "no host starts")
        yield* leaving.leave
        assert.isUndefined(yield* held)
        yield* hold(leaving.id)
        yield* hold(uuid())
        yield* hold("not a supervisor")
        assert.isUndefined(yield* held)
        const lapsing = yield* desk.hire({ lease: Duration.seconds(10) })
        const other = yield* desk.hire({ lease: Duration.hours(1) })
        yield* hold(lapsing.id)
        yield* advance("11 seconds")
        yield* other.tick
        assert.isUndefined(yield* held)
      }))

    it.effect("returns of a supervisor's lanes those that all who serve them have given up", () =>
      Effect.gen(function*() {
        const { broker, enqueue, hire, lane, other, read, worker } = yield* twoLanes
        const hold = (supervisor: string, lanes: ReadonlyArray<typeof lane>, givenUp: boolean) =>
          broker.hold({ supervisor, lanes, reason: Option.some("no host starts"), givenUp })
        assert.deepStrictEqual(yield* hold(worker.id, [lane, other], false), [])
        assert.deepStrictEqual(yield* hold(worker.id, [other, lane], true), [other, lane])
        assert.match(Option.getOrThrow((yield* read(yield* enqueue())).held), /^no host starts$/)

        const second = yield* hire()
        assert.deepStrictEqual(yield* hold(worker.id, [lane, other], true), [other], "the second claims the lane")
        assert.deepStrictEqual(yield* hold(second.id, [lane], false), [], "it has not given up")
        assert.deepStrictEqual(yield* hold(worker.id, [lane], true), [])
        assert.deepStrictEqual(yield* hold(second.id, [lane], true), [lane])
        assert.deepStrictEqual(yield* hold(worker.id, [lane, other], true), [lane, other])
        yield* broker.hold({ supervisor: second.id, lanes: [lane], reason: Option.none(), givenUp: false })
        assert.deepStrictEqual(yield* hold(worker.id, [lane, other], true), [other])
        yield* second.leave
        assert.deepStrictEqual(yield* hold(worker.id, [lane, other], true), [lane, other])
      }))

    it.effect("does not wait for a supervisor whose lease is over", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.hire({ lease: Duration.seconds(10) })
        const worker = yield* desk.hire({ lease: Duration.hours(1) })
        const hold = desk.broker.hold({
          supervisor: worker.id,
          lanes: [desk.lane],
          reason: Option.some("no host starts"),
          givenUp: true
        })
        assert.deepStrictEqual(yield* hold, [])
        yield* advance("11 seconds")
        assert.deepStrictEqual(yield* hold, [desk.lane])
      }))
  })
}

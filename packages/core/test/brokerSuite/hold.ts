/** What a supervisor takes of its lanes, and what it says of those it leaves alone. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { Outcome } from "../../src/Outcome.ts"
import { type Advance, type It, lost, makeDesk, succeeded, uuid } from "./kit.ts"

/** How long all that serve a lane have to fail, where it is not another time that is tried. */
const patience = Duration.minutes(10)

/** A lease that outlives a test. */
const day = Duration.days(1)

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
          broker.hold({
            supervisor: worker.id,
            lanes: [lane],
            reason: Option.fromUndefinedOr(reason),
            failing: false,
            patience
          })
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
          desk.broker.hold({
            supervisor,
            lanes: [desk.lane],
            reason: Option.some("no host starts"),
            failing: false,
            patience
          })
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

    it.effect("returns the lanes that all who serve them were failing in for the patience", () =>
      Effect.gen(function*() {
        const { broker, enqueue, hire, lane, other, read } = yield* twoLanes
        // Of the test's whole length, but for the one that leaves.
        const [first, second] = [yield* hire({ lanes: [lane, other], lease: day }), yield* hire({ lease: day })]
        const hold = (supervisor: string, lanes: ReadonlyArray<typeof lane>, failing = true) =>
          broker.hold({ supervisor, lanes, reason: Option.some("no host starts"), failing, patience })
        assert.deepStrictEqual(yield* hold(first.id, [lane, other]), [])
        yield* advance("9 minutes")
        assert.deepStrictEqual(yield* hold(first.id, [lane, other]), [])
        yield* advance("2 minutes")
        assert.deepStrictEqual(yield* hold(first.id, [other, lane]), [other], "the second serves the lane")
        assert.deepStrictEqual(yield* hold(first.id, [lane, other], false), [], "the first is not failing any more")
        assert.match(Option.getOrThrow((yield* read(yield* enqueue())).held), /^no host starts$/)
        yield* hold(first.id, [lane, other])

        yield* advance("11 minutes")
        assert.deepStrictEqual(yield* hold(second.id, [lane], false), [], "it waits for something")
        assert.deepStrictEqual(yield* hold(first.id, [lane, other]), [other])
        assert.deepStrictEqual(yield* hold(second.id, [lane]), [], "it has begun to fail")
        assert.deepStrictEqual(yield* hold(first.id, [lane, other]), [other], "and could have run it until now")
        yield* advance("11 minutes")
        assert.deepStrictEqual(yield* hold(first.id, [lane, other]), [lane, other])
        assert.deepStrictEqual(yield* hold(second.id, [lane]), [lane])
        yield* broker.hold({ supervisor: second.id, lanes: [lane], reason: Option.none(), failing: false, patience })
        assert.deepStrictEqual(yield* hold(first.id, [lane, other]), [other])
      }).pipe(Effect.scoped))

    for (const leaves of ["leaves", "lapses", "lapses and is reaped"]) {
      it.effect(`waits for the whole patience when the last that could run a lane ${leaves}`, () =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const healthy = yield* desk.hire({ lease: Duration.hours(1) })
          const broken = yield* desk.hire({ lease: day })
          const hold = desk.broker.hold({
            supervisor: broken.id,
            lanes: [desk.lane],
            reason: Option.some("no host starts"),
            failing: true,
            patience
          })
          assert.deepStrictEqual(yield* hold, [])
          yield* advance("50 minutes")
          assert.deepStrictEqual(yield* hold, [], "the other works")
          if (leaves === "leaves") yield* healthy.leave
          else yield* advance("11 minutes")
          if (leaves === "lapses and is reaped") yield* broken.tick
          assert.deepStrictEqual(yield* hold, [], "another may come at once")
          yield* advance("8 minutes")
          assert.deepStrictEqual(yield* hold, [])
          yield* advance("3 minutes")
          assert.deepStrictEqual(yield* hold, [desk.lane])
        }).pipe(Effect.scoped))
    }

    it.effect("heeds no supervisor that is gone when it says that it fails", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const broken = yield* desk.hire({ lease: day })
        const gone = yield* desk.hire({ lease: day })
        const hold = (supervisor: string) =>
          desk.broker.hold({
            supervisor,
            lanes: [desk.lane],
            reason: Option.some("no host starts"),
            failing: true,
            patience
          })
        yield* gone.leave
        yield* hold(broken.id)
        yield* advance("9 minutes")
        for (const stranger of [gone.id, uuid()]) assert.deepStrictEqual(yield* hold(stranger), [])
        yield* advance("2 minutes")
        assert.deepStrictEqual(yield* hold(broken.id), [desk.lane])
      }).pipe(Effect.scoped))

    it.effect("claims on request only what has been due for a time, whatever else comes first", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire({ lease: day })
        const [suspect] = yield* desk.enqueueMany(1)
        for (let losses = 0; losses < 2; losses++) yield* worker.settle(yield* worker.claimOne, lost())
        const old = yield* desk.enqueueMany(2, { priority: 1 })
        yield* advance("2 hours")
        const young = yield* desk.enqueueMany(3, { priority: 9 })
        const claim = (waited?: Duration.Duration) =>
          Effect.map(
            desk.broker.claim({
              supervisor: worker.id,
              lanes: [desk.lane],
              limit: 2,
              ...(waited === undefined ? {} : { waited })
            }),
            (claimed) => claimed.map(({ id }) => id)
          )
        assert.deepStrictEqual(yield* claim(Duration.infinity), [])
        assert.deepStrictEqual(yield* claim(Duration.hours(3)), [])
        assert.deepStrictEqual(yield* claim(Duration.hours(1)), [suspect])
        assert.deepStrictEqual(yield* claim(Duration.hours(1)), old)
        assert.deepStrictEqual(yield* claim(Duration.hours(1)), [])
        assert.deepStrictEqual([...yield* claim(), ...yield* claim()], young)
      }).pipe(Effect.scoped))
  })
}

/** What happens to the executions of a supervisor that is gone. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { Outcome } from "../../src/Outcome.ts"
import { type Advance, type It, lease, lost, makeDesk, pastLease, reasonOf, succeeded, summary } from "./kit.ts"

export const leasePromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("lease", () => {
    it.effect("is renewed by ticks", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, worker } = yield* desk.holding()
        for (let ticks = 0; ticks < 5; ticks++) {
          yield* advance("40 seconds")
          assert.isTrue((yield* worker.tick).alive)
        }
        assert.strictEqual((yield* desk.read(claimed.id)).state, "running")
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "Settled")
      }))

    it.effect("that lapses gives its executions back by another supervisor's tick, with a loss and a new fence", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id } = yield* desk.holding()
        yield* advance(pastLease)
        const other = yield* desk.hire()
        assert.isTrue((yield* other.tick).alive)
        const again = yield* other.claimOne
        assert.strictEqual(again.id, id)
        assert.strictEqual(again.attempt, 1, "a loss is no attempt")
        assert.strictEqual(again.losses, 1)
        assert.isAbove(again.fence, claimed.fence)
        assert.deepStrictEqual(summary(yield* desk.broker.attempts(id)), [[1, "lost"]])
      }))

    it.effect("that lapsed leaves its supervisor with LeaseLost, and changes nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "LeaseLost")
        assert.strictEqual((yield* desk.read(id)).state, "queued")
        const again = yield* other.claimOne
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "LeaseLost")
        assert.strictEqual(yield* worker.settle(again, succeeded()), "LeaseLost")
        assert.strictEqual(yield* other.settle(claimed, succeeded()), "LeaseLost")
        assert.strictEqual((yield* desk.read(id)).state, "running")
        assert.strictEqual(yield* other.settle(again, succeeded()), "Settled")
      }))

    it.effect("that lapsed is never revived, and claims nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        yield* desk.enqueue()
        yield* advance(pastLease)
        assert.deepStrictEqual(yield* worker.claim(), [])
        assert.isFalse((yield* worker.tick).alive)
        assert.isFalse((yield* worker.tick).alive)
        assert.deepStrictEqual(yield* worker.claim(), [])
        const other = yield* desk.hire()
        assert.isTrue((yield* other.tick).alive)
        assert.isFalse((yield* worker.tick).alive)
        assert.strictEqual((yield* other.claim()).length, 1)
      }))

    it.effect("is the same lease when its supervisor registers again after a lost acknowledgement", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, worker } = yield* desk.holding()
        yield* desk.broker.register({ supervisor: worker.id, label: "suite", lanes: [desk.lane], lease })
        assert.isTrue((yield* worker.tick).alive)
        assert.strictEqual((yield* desk.read(claimed.id)).state, "running")
        yield* worker.leave
        assert.strictEqual((yield* desk.read(claimed.id)).state, "queued")
      }))

    it.effect("that is ended loses an at-most-once execution for good, for it may have run", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ atMostOnce: true })
        yield* worker.leave
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.losses], ["lost", 0])
        assert.strictEqual((yield* reasonOf(record))?._tag, "Lost")
        const [attempt] = yield* desk.broker.attempts(id)
        assert.deepStrictEqual([attempt?.outcome, attempt?.confirmed], ["lost", false])
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "LeaseLost")
      }))

    it.effect("that is ended gives its executions back uncounted", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.leave
        yield* worker.leave
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "queued")
        assert.deepStrictEqual([record.attempts, record.losses], [0, 0])
        assert.isAbove(record.fence, claimed.fence)
        assert.deepStrictEqual(summary(yield* desk.broker.attempts(id)), [[1, "released"]])
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "LeaseLost")
        const other = yield* desk.hire()
        assert.strictEqual((yield* other.claimOne).id, id)
      }))

    it.effect("lapses for the third time, and quarantines the execution", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const id = yield* desk.enqueue()
        for (let losses = 0; losses < 3; losses++) {
          const worker = yield* desk.hire()
          const claimed = yield* worker.claimOne
          assert.deepStrictEqual([claimed.losses, claimed.attempt], [losses, 1])
          yield* advance(pastLease)
          const other = yield* desk.hire()
          yield* other.tick
        }
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "lost")
        assert.deepStrictEqual([record.attempts, record.losses], [0, 3])
        const reason = yield* reasonOf(record)
        assert.strictEqual(reason?._tag, "Quarantined")
        assert.strictEqual(reason?._tag === "Quarantined" && reason.losses, 3)
        assert.deepStrictEqual(summary(yield* desk.broker.attempts(id)), [[1, "lost"], [1, "lost"], [1, "lost"]])
      }))

    it.effect("and reported losses add up to the same limit", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const id = yield* desk.enqueue()
        yield* worker.settle(yield* worker.claimOne, lost())
        yield* worker.settle(yield* worker.claimOne, lost())
        yield* worker.claimOne
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        assert.strictEqual((yield* desk.read(id)).state, "lost")
      }))

    it.effect("that lapses loses an at-most-once execution for good", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ atMostOnce: true })
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "lost")
        assert.strictEqual((yield* reasonOf(record))?._tag, "Lost")
        assert.deepStrictEqual(yield* other.claim(), [])
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "LeaseLost")
        assert.strictEqual((yield* desk.read(id)).state, "lost")
      }))

    it.effect("that lapses gives 1,000 executions back", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(1_000)
        const worker = yield* desk.hire()
        assert.strictEqual((yield* worker.claim(1_000)).length, 1_000)
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        const again = yield* other.claim(1_000)
        assert.strictEqual(again.length, 1_000)
        assert.isTrue(again.every(({ losses }) => losses === 1))
      }))

    it.effect("of others is not touched by a supervisor's leaving or settling", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(2)
        const [one, other] = [yield* desk.hire(), yield* desk.hire()]
        const mine = yield* one.claimOne
        const theirs = yield* other.claimOne
        yield* one.settle(mine, Outcome.Released())
        yield* one.leave
        assert.strictEqual((yield* desk.read(theirs.id)).state, "running")
        assert.strictEqual(yield* other.settle(theirs, succeeded()), "Settled")
      }))
  })
}

/** What becomes of an execution when its attempt has ended. */
import { assert, describe } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Envelope from "../../src/Envelope.ts"
import { Outcome } from "../../src/Outcome.ts"
import * as TaskError from "../../src/TaskError.ts"
import { type Advance, failed, type It, lost, makeDesk, reasonOf, retry, succeeded, summary, uuid } from "./kit.ts"

export const settlePromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("settle", () => {
    it.effect("records a success", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const outcome = succeeded("{\"bytes\":42}")
        assert.deepStrictEqual(
          yield* desk.broker.settle(worker.id, [{
            id,
            fence: claimed.fence,
            outcome,
            place: Option.some("host-1")
          }]),
          ["Settled"]
        )
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "succeeded")
        assert.strictEqual(record.attempts, 1)
        assert.strictEqual(Option.getOrThrow(record.result), "{\"_tag\":\"Success\",\"value\":{\"bytes\":42}}")
        assert.isTrue(Option.isSome(record.finishedAt))
        const [attempt, ...more] = yield* desk.broker.attempts(id)
        assert.deepStrictEqual(more, [])
        assert.strictEqual(attempt!.execution, id)
        assert.strictEqual(attempt!.fence, claimed.fence)
        assert.strictEqual(attempt!.attempt, 1)
        assert.strictEqual(attempt!.outcome, "succeeded")
        assert.deepStrictEqual(attempt!.place, Option.some("host-1"))
        assert.deepStrictEqual(attempt!.result, record.result)
        assert.isTrue(attempt!.confirmed)
        assert.isAtMost(DateTime.toEpochMillis(attempt!.claimedAt), DateTime.toEpochMillis(attempt!.endedAt))
      }))

    it.effect("records a failure", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        assert.strictEqual(yield* worker.settle(claimed, failed("{\"page\":3}")), "Settled")
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "failed")
        assert.strictEqual(record.attempts, 1)
        assert.strictEqual(Option.getOrThrow(record.result), Envelope.failure("{\"page\":3}"))
        assert.deepStrictEqual(summary(yield* desk.broker.attempts(id)), [[1, "failed"]])
      }))

    it.effect("records an attempt over its limit as failed with reason TimedOut", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const result = Envelope.taskError(new TaskError.TimedOut({ timeoutMillis: 600_000 }))
        yield* worker.settle(claimed, Outcome.TimedOut({ result, confirmed: false }))
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "failed")
        assert.strictEqual(record.attempts, 1)
        assert.strictEqual((yield* reasonOf(record))?._tag, "TimedOut")
        const attempts = yield* desk.broker.attempts(id)
        assert.deepStrictEqual(attempts.map(({ confirmed, outcome }) => [outcome, confirmed]), [["timed_out", false]])
      }))

    it.effect("puts a retry back after its delay, as the next attempt", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        assert.strictEqual(yield* worker.settle(claimed, retry("30 seconds")), "Settled")
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "queued")
        assert.strictEqual(record.attempts, 1)
        assert.isTrue(Option.isNone(record.result))
        assert.deepStrictEqual(yield* worker.claim(), [])
        yield* advance("31 seconds")
        const again = yield* worker.claimOne
        assert.strictEqual(again.id, id)
        assert.strictEqual(again.attempt, 2)
        assert.isAbove(again.fence, claimed.fence)
      }))

    it.effect("fails an execution that asks for more attempts than it may have", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const id = yield* desk.enqueue({ maxAttempts: 2 })
        yield* worker.settle(yield* worker.claimOne, retry())
        const second = yield* worker.claimOne
        assert.strictEqual(second.attempt, 2)
        assert.strictEqual(yield* worker.settle(second, retry()), "Settled")
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "failed")
        assert.strictEqual(record.attempts, 2)
        assert.strictEqual(Option.getOrThrow(record.result), Envelope.failure("\"again\""))
        assert.deepStrictEqual(summary(yield* desk.broker.attempts(id)), [[1, "retry"], [2, "failed"]])
      }))

    it.effect("puts a released execution back at once, uncounted", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ atMostOnce: true })
        assert.strictEqual(yield* worker.settle(claimed, Outcome.Released()), "Settled")
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "queued")
        assert.strictEqual(record.attempts, 0)
        assert.strictEqual(record.losses, 0)
        assert.strictEqual((yield* worker.claimOne).attempt, 1)
      }))

    it.effect("counts a loss apart from the attempts, and a collateral loss not at all", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.settle(claimed, lost({ counted: false }))
        const second = yield* worker.claimOne
        assert.deepStrictEqual([second.id, second.attempt, second.losses], [id, 1, 0])
        yield* worker.settle(second, lost())
        const third = yield* worker.claimOne
        assert.deepStrictEqual([third.id, third.attempt, third.losses], [id, 1, 1])
        assert.strictEqual((yield* desk.read(id)).attempts, 0)
      }))

    it.effect("sets an execution aside when its loss is final", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding({ atMostOnce: true })
        yield* worker.settle(claimed, lost({ final: true }))
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "lost")
        assert.strictEqual(record.losses, 1)
        assert.strictEqual((yield* reasonOf(record))?._tag, "Lost")
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("refuses a stale fence, and changes nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.settle(claimed, Outcome.Released())
        const current = yield* worker.claimOne
        const before = [yield* desk.read(id), yield* desk.broker.attempts(id)]
        assert.strictEqual(yield* worker.settle({ id, fence: current.fence + 1 }, succeeded()), "LeaseLost")
        assert.deepStrictEqual([yield* desk.read(id), yield* desk.broker.attempts(id)], before)
        // The old fence did settle once, as released: repeating it is answered, and changes nothing either.
        assert.strictEqual(yield* worker.settle(claimed, succeeded()), "Settled")
        assert.deepStrictEqual([yield* desk.read(id), yield* desk.broker.attempts(id)], before)
        assert.strictEqual(yield* worker.settle(current, succeeded()), "Settled")
      }))

    it.effect("refuses another supervisor than the owner, and changes nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const other = yield* desk.hire()
        assert.strictEqual(yield* other.settle(claimed, succeeded()), "LeaseLost")
        assert.strictEqual((yield* desk.read(id)).state, "running")
        assert.deepStrictEqual(yield* desk.broker.attempts(id), [])
        yield* worker.settle(claimed, failed())
        assert.strictEqual(yield* other.settle(claimed, succeeded()), "LeaseLost")
        assert.strictEqual((yield* desk.read(id)).state, "failed")
      }))

    it.effect("refuses an id that is not known or was never claimed", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const id = yield* desk.enqueue()
        assert.strictEqual(yield* worker.settle({ id: uuid(), fence: 1 }, succeeded()), "LeaseLost")
        assert.strictEqual(yield* worker.settle({ id, fence: 0 }, succeeded()), "LeaseLost")
        assert.strictEqual(yield* worker.settle({ id, fence: 1 }, succeeded()), "LeaseLost")
        assert.strictEqual((yield* desk.read(id)).state, "queued")
      }))

    it.effect("answers Settled again after a lost acknowledgement, and records nothing twice", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        for (const outcome of [succeeded(), failed(), retry("1 hour"), Outcome.Released(), lost()]) {
          const { claimed, id, worker } = yield* desk.holding({ priority: 9 })
          assert.strictEqual(yield* worker.settle(claimed, outcome), "Settled")
          const before = [yield* desk.read(id), yield* desk.broker.attempts(id)]
          assert.strictEqual(yield* worker.settle(claimed, outcome), "Settled", outcome._tag)
          assert.deepStrictEqual([yield* desk.read(id), yield* desk.broker.attempts(id)], before)
          yield* desk.broker.cancel(id)
        }
      }))

    it.effect("answers each settlement of a mixed batch in the order given", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(3)
        const worker = yield* desk.hire()
        const [a, b, c] = yield* worker.claim(3)
        yield* worker.settle(b!, succeeded("1"))
        const settlement = (id: string, fence: number) => ({ id, fence, outcome: failed(), place: Option.none() })
        assert.deepStrictEqual(
          yield* desk.broker.settle(worker.id, [
            settlement(c!.id, c!.fence),
            settlement(uuid(), 1),
            settlement(b!.id, b!.fence),
            settlement(a!.id, a!.fence + 7),
            settlement(a!.id, a!.fence)
          ]),
          ["Settled", "LeaseLost", "Settled", "LeaseLost", "Settled"]
        )
        assert.strictEqual((yield* desk.read(b!.id)).state, "succeeded")
        assert.strictEqual((yield* desk.read(a!.id)).state, "failed")
        assert.deepStrictEqual(yield* desk.broker.settle(worker.id, []), [])
      }))

    it.effect("keeps every attempt, oldest first, by its fence", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const id = yield* desk.enqueue({ maxAttempts: 5 })
        const worker = yield* desk.hire()
        const fences: Array<number> = []
        for (const outcome of [Outcome.Released(), retry(), lost(), retry(), succeeded()]) {
          const claimed = yield* worker.claimOne
          fences.push(claimed.fence)
          yield* worker.settle(claimed, outcome)
        }
        const attempts = yield* desk.broker.attempts(id)
        assert.deepStrictEqual(attempts.map(({ fence }) => fence), fences)
        assert.deepStrictEqual(summary(attempts), [
          [1, "released"],
          [1, "retry"],
          [2, "lost"],
          [2, "retry"],
          [3, "succeeded"]
        ])
        assert.isTrue(Option.isNone(attempts[0]!.result))
        assert.deepStrictEqual(attempts[1]!.result, Option.some(Envelope.failure("\"again\"")))
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.attempts, record.losses], [3, 1])
      }))
  })
}

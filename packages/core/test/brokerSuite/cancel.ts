/** Cancel, at every moment, and against every other verb. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { State } from "../../src/Broker.ts"
import * as Envelope from "../../src/Envelope.ts"
import { Outcome } from "../../src/Outcome.ts"
import * as TaskError from "../../src/TaskError.ts"
import {
  type Advance,
  failed,
  type It,
  lost,
  makeDesk,
  pastLease,
  reasonOf,
  retry,
  succeeded,
  summary,
  uuid
} from "./kit.ts"

interface Race {
  readonly what: string
  readonly outcome: Outcome
  readonly state: State
  /** `confirmed` of the reason `Cancelled`; absent when the outcome stands. */
  readonly confirmed?: boolean
}

const timedOut = Outcome.TimedOut({
  result: Envelope.taskError(new TaskError.TimedOut({ timeoutMillis: 1 })),
  confirmed: true
})

// An end stands; whatever would put a cancelling execution back into its queue cancels it instead.
const races: ReadonlyArray<Race> = [
  { what: "a success", outcome: succeeded(), state: "succeeded" },
  { what: "a failure", outcome: failed(), state: "failed" },
  { what: "a timeout", outcome: timedOut, state: "failed" },
  { what: "a final loss", outcome: lost({ final: true }), state: "lost" },
  { what: "a retry", outcome: retry(), state: "cancelled", confirmed: true },
  { what: "a release", outcome: Outcome.Released(), state: "cancelled", confirmed: true },
  { what: "a return", outcome: Outcome.Returned(), state: "cancelled", confirmed: true },
  { what: "a loss", outcome: lost(), state: "cancelled", confirmed: false },
  { what: "a collateral loss", outcome: lost({ counted: false }), state: "cancelled", confirmed: false },
  { what: "a confirmed stop", outcome: Outcome.Cancelled({ confirmed: true }), state: "cancelled", confirmed: true },
  {
    what: "an unconfirmed stop",
    outcome: Outcome.Cancelled({ confirmed: false }),
    state: "cancelled",
    confirmed: false
  }
]

export const cancelPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("cancel", () => {
    it.effect("of a queued execution answers Cancelled, and it is never handed out", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const id = yield* desk.enqueue()
        assert.strictEqual(yield* desk.broker.cancel(id), "Cancelled")
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "cancelled")
        assert.deepInclude(yield* reasonOf(record), { _tag: "Cancelled", confirmed: true })
        assert.isTrue(Option.isSome(record.finishedAt))
        assert.deepStrictEqual(yield* desk.broker.attempts(id), [])
        const worker = yield* desk.hire()
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("of an execution that waits for its next attempt answers Cancelled", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.settle(claimed, retry("1 hour"))
        assert.strictEqual(yield* desk.broker.cancel(id), "Cancelled")
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.attempts], ["cancelled", 1])
        assert.deepStrictEqual(summary(yield* desk.broker.attempts(id)), [[1, "retry"]])
      }))

    it.effect("of a running execution answers Requested, and its owner's tick tells", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.holding()
        const other = yield* desk.hire()
        assert.deepStrictEqual((yield* worker.tick).cancelling, [])
        assert.strictEqual(yield* desk.broker.cancel(id), "Requested")
        assert.strictEqual(yield* desk.broker.cancel(id), "Requested")
        assert.strictEqual((yield* desk.read(id)).state, "cancelling")
        assert.deepStrictEqual((yield* worker.tick).cancelling, [id])
        assert.deepStrictEqual((yield* other.tick).cancelling, [])
      }))

    it.effect("of an execution that is over, or not known, answers TooLate", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.settle(claimed, succeeded())
        assert.strictEqual(yield* desk.broker.cancel(id), "TooLate")
        assert.strictEqual((yield* desk.read(id)).state, "succeeded")
        assert.strictEqual(yield* desk.broker.cancel(uuid()), "TooLate")
        const queued = yield* desk.enqueue()
        yield* desk.broker.cancel(queued)
        assert.strictEqual(yield* desk.broker.cancel(queued), "TooLate")
      }))

    it.effect.each(races)(
      "while cancelling, $what ends as $state",
      ({ confirmed, outcome, state }) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const { claimed, id, worker } = yield* desk.holding()
          assert.strictEqual(yield* desk.broker.cancel(id), "Requested")
          assert.strictEqual(yield* worker.settle(claimed, outcome), "Settled")
          const record = yield* desk.read(id)
          assert.strictEqual(record.state, state)
          const [attempt, ...more] = yield* desk.broker.attempts(id)
          assert.deepStrictEqual(more, [])
          if (confirmed !== undefined) {
            assert.deepInclude(yield* reasonOf(record), { _tag: "Cancelled", confirmed })
            assert.strictEqual(attempt!.outcome, "cancelled")
            assert.strictEqual(attempt!.confirmed, confirmed)
            assert.isTrue(Option.isNone(attempt!.result))
          }
          assert.strictEqual(yield* desk.broker.cancel(id), "TooLate")
          assert.deepStrictEqual((yield* worker.tick).cancelling, [])
          assert.strictEqual(yield* worker.settle(claimed, outcome), "Settled")
          assert.deepStrictEqual(yield* worker.claim(), [])
        })
    )

    it.effect("of an execution whose owner lapses ends as cancelled, unconfirmed, and never as queued", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        for (const atMostOnce of [false, true]) {
          const { claimed, id, worker } = yield* desk.holding({ atMostOnce })
          yield* desk.broker.cancel(id)
          yield* advance(pastLease)
          const other = yield* desk.hire()
          yield* other.tick
          const record = yield* desk.read(id)
          assert.strictEqual(record.state, "cancelled")
          assert.deepInclude(yield* reasonOf(record), { _tag: "Cancelled", confirmed: false })
          const attempts = yield* desk.broker.attempts(id)
          assert.deepStrictEqual(attempts.map(({ confirmed, outcome }) => [outcome, confirmed]), [["cancelled", false]])
          assert.strictEqual(yield* worker.settle(claimed, succeeded()), "LeaseLost")
          assert.deepStrictEqual(yield* other.claim(), [])
        }
      }))

    it.effect("of an execution whose owner leaves ends as cancelled", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.holding()
        yield* desk.broker.cancel(id)
        yield* worker.leave
        assert.strictEqual((yield* desk.read(id)).state, "cancelled")
        const attempts = yield* desk.broker.attempts(id)
        assert.deepStrictEqual(attempts.map(({ confirmed, outcome }) => [outcome, confirmed]), [["cancelled", true]])
      }))

    it.effect("is obeyed though nobody had cancelled, when the supervisor says so", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.settle(claimed, Outcome.Cancelled({ confirmed: false }))
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "cancelled")
        assert.deepInclude(yield* reasonOf(record), { _tag: "Cancelled", confirmed: false })
      }))
  })
}

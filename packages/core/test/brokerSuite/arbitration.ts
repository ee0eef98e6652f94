/** The whole input of the arbitration, against the one pure function that decides it. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { AttemptRecord, Claimed, Record } from "../../src/Broker.ts"
import * as Envelope from "../../src/Envelope.ts"
import { lapsed, left, resolve, type Verdict } from "../../src/internal/verdict.ts"
import { Outcome } from "../../src/Outcome.ts"
import { type Advance, type It, lost, makeDesk, pastLease, retry, type Worker } from "./kit.ts"

const result = Envelope.failure("\"why\"")
const both = [false, true]

const proposals: ReadonlyArray<Outcome> = [
  Outcome.Succeeded({ result: Envelope.success("1") }),
  Outcome.Failed({ result }),
  ...both.map((confirmed) => Outcome.TimedOut({ result, confirmed })),
  ...both.map((confirmed) => Outcome.Cancelled({ confirmed })),
  ...both.map((confirmed) => Outcome.Retry({ result, delay: Duration.hours(1), confirmed })),
  Outcome.Released(),
  Outcome.Returned(),
  ...both.flatMap((counted) => both.map((final) => Outcome.Lost({ result, counted, final })))
]

const maxAttempts = 3

/** What is so before the end. */
const situations = both.flatMap((atMostOnce) =>
  [0, 1, 2].flatMap((losses) =>
    [0, maxAttempts - 1].flatMap((attempts) => both.map((cancelling) => ({ atMostOnce, losses, attempts, cancelling })))
  )
)

type Situation = (typeof situations)[number]

const words = ({ atMostOnce, attempts, cancelling, losses }: Situation): string =>
  `${cancelling ? "cancelling" : "running"} after ${attempts} attempts and ${losses} losses${
    atMostOnce ? ", at most once" : ""
  }`

/** Claims all that is due: suspects come one by one. */
const claimAll = (worker: Worker) =>
  Effect.gen(function*() {
    const all: Array<Claimed> = []
    while (true) {
      const claimed = yield* worker.claim(100)
      if (claimed.length === 0) return all
      all.push(...claimed)
    }
  })

/** A worker that holds executions of which all this is so. */
const holding = Effect.fnUntraced(function*(count: number, { atMostOnce, attempts, cancelling, losses }: Situation) {
  const desk = yield* makeDesk
  yield* desk.enqueueMany(count, { atMostOnce, maxAttempts })
  const worker = yield* desk.hire()
  const settleAll = (outcome: Outcome) =>
    Effect.flatMap(claimAll(worker), (claimed) =>
      desk.broker.settle(
        worker.id,
        claimed.map(({ fence, id }) => ({ id, fence, outcome, place: Option.none() }))
      ))
  for (let n = 0; n < attempts; n++) yield* settleAll(retry())
  for (let n = 0; n < losses; n++) yield* settleAll(lost())
  const claimed = yield* claimAll(worker)
  assert.lengthOf(claimed, count)
  if (cancelling) yield* Effect.forEach(claimed, ({ id }) => desk.broker.cancel(id))
  return { desk, worker, claimed }
})

/** Compares what is recorded with what was decided. */
const check = (
  what: string,
  situation: Situation,
  claimed: Claimed,
  verdict: Verdict,
  record: Record,
  attempts: ReadonlyArray<AttemptRecord>
): void => {
  const { next } = verdict
  const queued = next.state === "queued"
  assert.deepStrictEqual(
    {
      state: record.state,
      result: Option.getOrUndefined(record.result),
      attempts: record.attempts,
      losses: record.losses,
      isNewFence: record.fence > claimed.fence,
      isDelayed: record.runAt.epochMilliseconds > record.enqueuedAt.epochMilliseconds + 30 * 60_000
    },
    {
      state: next.state,
      result: queued ? undefined : next.result,
      attempts: situation.attempts + Number(verdict.counts),
      losses: situation.losses + Number(verdict.loses),
      isNewFence: queued,
      isDelayed: queued && next.delayMillis !== undefined
    },
    what
  )
  const own = attempts.find(({ fence }) => fence === claimed.fence)
  assert.deepStrictEqual(
    own && {
      outcome: own.outcome,
      confirmed: own.confirmed,
      result: Option.getOrUndefined(own.result),
      attempt: own.attempt
    },
    verdict.attempt === undefined ? undefined : {
      outcome: verdict.attempt,
      confirmed: verdict.confirmed,
      result: verdict.attemptResult,
      attempt: situation.attempts + 1
    },
    what
  )
}

export const arbitrationPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("arbitration", () => {
    for (const situation of situations) {
      it.effect(`of every proposal for what is ${words(situation)}`, () =>
        Effect.gen(function*() {
          const { claimed, desk, worker } = yield* holding(proposals.length, situation)
          // Neither an older fence nor one that was never given changes anything.
          for (const shift of [-1, 1]) {
            const answers = yield* desk.broker.settle(
              worker.id,
              claimed.map(({ fence, id }, index) => ({
                id,
                fence: fence + shift,
                outcome: proposals[index]!,
                place: Option.none()
              }))
            )
            // An older one may be of an attempt that this supervisor has settled.
            if (shift > 0 || situation.attempts + situation.losses === 0) {
              assert.isTrue(answers.every((answer) => answer === "LeaseLost"))
            }
          }
          const answers = yield* desk.broker.settle(
            worker.id,
            claimed.map(({ fence, id }, index) => ({
              id,
              fence,
              outcome: proposals[index]!,
              place: Option.none()
            }))
          )
          assert.isTrue(answers.every((answer) => answer === "Settled"))
          for (const [index, one] of claimed.entries()) {
            const proposed = proposals[index]!
            const verdict = resolve({ ...situation, maxAttempts }, proposed)
            check(
              JSON.stringify(proposed),
              situation,
              one,
              verdict,
              yield* desk.read(one.id),
              yield* desk.broker.attempts(one.id)
            )
          }
        }))

      it.effect(`of a lapsed lease and of a supervisor that leaves, for what is ${words(situation)}`, () =>
        Effect.gen(function*() {
          const leaving = yield* holding(1, situation)
          yield* leaving.worker.leave
          const lapsing = yield* holding(1, situation)
          yield* advance(pastLease)
          yield* (yield* lapsing.desk.hire()).tick
          for (
            const [what, { claimed: [one], desk }, verdict] of [
              [
                "leaving",
                leaving,
                situation.atMostOnce ? left(situation) : resolve({ ...situation, maxAttempts }, Outcome.Released())
              ],
              ["lapsing", lapsing, lapsed(situation)]
            ] as const
          ) {
            check(what, situation, one!, verdict, yield* desk.read(one!.id), yield* desk.broker.attempts(one!.id))
          }
        }))
    }
  })
}

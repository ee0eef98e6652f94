/** Everything at once: whatever the interleaving, an execution has one recorded outcome. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { type Claimed, type ExecutionId, type State } from "../../src/Broker.ts"
import { Outcome } from "../../src/Outcome.ts"
import {
  type Advance,
  type Desk,
  failed,
  type It,
  lost,
  makeDesk,
  pastLease,
  retry,
  succeeded,
  type Worker
} from "./kit.ts"

const isTerminal = (state: State): boolean =>
  state === "succeeded" || state === "failed" || state === "cancelled" || state === "expired" || state === "lost"

/** A small seeded generator (mulberry32), so that a failing interleaving can be run again. */
const makeRandom = (seed: number) => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  const below = (n: number) => Math.floor(next() * n)
  const pick = <A>(values: ReadonlyArray<A>): A | undefined => values[below(values.length)]
  return { below, pick }
}

const outcomes: ReadonlyArray<() => Outcome> = [
  () => succeeded(),
  () => failed(),
  () => retry(),
  () => retry("20 seconds"),
  () => Outcome.Released(),
  () => lost(),
  () => lost({ counted: false }),
  () => Outcome.Cancelled({ confirmed: true })
]

/** What the test saw with its own eyes, to be held against what the broker recorded. */
interface Ledger {
  /** Everything ever claimed, stale or not, with its claimer. */
  readonly held: Array<{ readonly worker: Worker; readonly claimed: Claimed }>
  /** The first outcome acknowledged for each (id, fence). */
  readonly acknowledged: Map<string, Outcome>
  /** Terminal states once seen. */
  readonly ended: Map<ExecutionId, string>
}

/** Reads an execution and checks that a recorded end is the end. */
const observe = (desk: Desk, ledger: Ledger, id: ExecutionId) =>
  Effect.gen(function*() {
    const record = yield* desk.read(id)
    const seen = ledger.ended.get(id)
    if (seen === undefined && !isTerminal(record.state)) return record
    const now = JSON.stringify([record.state, record.result, record.finishedAt, record.attempts, record.losses])
    if (seen !== undefined) assert.strictEqual(now, seen, `${id} reopened`)
    ledger.ended.set(id, now)
    return record
  })

/** One actor's life: random verbs, one after the other. */
const actor = <R>(options: {
  readonly desk: Desk
  readonly ids: ReadonlyArray<ExecutionId>
  readonly ledger: Ledger
  readonly advance: Advance<R>
  readonly seed: number
  readonly steps: number
}) =>
  Effect.gen(function*() {
    const { advance, desk, ids, ledger, seed, steps } = options
    const { below, pick } = makeRandom(seed)
    let worker = yield* desk.hire()
    for (let step = 0; step < steps; step++) {
      const dice = below(100)
      if (dice < 35) {
        for (const claimed of yield* worker.claim(1 + below(4))) ledger.held.push({ worker, claimed })
      } else if (dice < 70) {
        const hold = pick(ledger.held)
        if (hold === undefined) continue
        const outcome = pick(outcomes)!()
        const { claimed } = hold
        const answer = yield* hold.worker.settle(claimed, outcome)
        const key = `${claimed.id}/${claimed.fence}`
        if (answer === "Settled" && !ledger.acknowledged.has(key)) ledger.acknowledged.set(key, outcome)
      } else if (dice < 76) {
        yield* desk.broker.cancel(pick(ids)!)
      } else if (dice < 86) {
        const { alive } = yield* worker.tick
        if (!alive) worker = yield* desk.hire()
      } else if (dice < 90) {
        yield* advance("25 seconds")
      } else if (dice < 92) {
        // A crash: nobody says goodbye.
        worker = yield* desk.hire()
      } else if (dice < 94) {
        yield* worker.leave
        worker = yield* desk.hire()
      } else {
        yield* observe(desk, ledger, pick(ids)!)
      }
    }
  })

/** Brings everything to its end with one good worker. */
const drain = <R>(desk: Desk, advance: Advance<R>, ids: ReadonlyArray<ExecutionId>) =>
  Effect.gen(function*() {
    for (let rounds = 0; rounds < 50; rounds++) {
      const records = yield* Effect.forEach(ids, desk.read)
      if (records.every(({ state }) => isTerminal(state))) return records
      yield* advance(pastLease)
      const worker = yield* desk.hire()
      yield* worker.tick
      for (const claimed of yield* worker.claim(100)) yield* worker.settle(claimed, succeeded())
      yield* worker.leave
    }
    return yield* Effect.die(new Error("some execution never ended"))
  })

const terminalOutcomes: Readonly<Partial<Record<State, ReadonlyArray<string>>>> = {
  succeeded: ["succeeded"],
  failed: ["failed", "timed_out"],
  lost: ["lost"],
  // Cancelled while it waited for its turn: whatever the attempt before came to.
  cancelled: ["cancelled", "retry", "released", "lost"]
}

export const concurrencyPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("at once", () => {
    it.effect("settle and cancel leave one outcome, and a success stands", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(50)
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(50)
        yield* Effect.forEach(claimed, (each, n) =>
          Effect.gen(function*() {
            const pair = [
              Effect.asVoid(worker.settle(each, succeeded())),
              Effect.map(desk.broker.cancel(each.id), (answer) => assert.notStrictEqual(answer, "Cancelled"))
            ]
            yield* Effect.all(n % 2 === 0 ? pair : pair.reverse(), { concurrency: 2 })
          }), { concurrency: "unbounded" })
        for (const { id } of claimed) {
          assert.strictEqual((yield* desk.read(id)).state, "succeeded")
          assert.strictEqual((yield* desk.broker.attempts(id)).length, 1)
        }
      }))

    it.effect("retry and cancel leave nothing queued", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(50)
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(50)
        yield* Effect.forEach(claimed, (each) =>
          Effect.all([Effect.asVoid(worker.settle(each, retry())), Effect.asVoid(desk.broker.cancel(each.id))], {
            concurrency: 2
          }), { concurrency: "unbounded" })
        for (const { id } of claimed) {
          assert.strictEqual((yield* desk.read(id)).state, "cancelled")
        }
        assert.deepStrictEqual(yield* worker.claim(50), [])
      }))

    it.effect("claim and cancel agree on who was first", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* desk.enqueueMany(50)
        const worker = yield* desk.hire()
        const [claimed, answers] = yield* Effect.all([
          Effect.map(Effect.all(Array.from({ length: 10 }, () => worker.claim(5)), { concurrency: 3 }), (all) =>
            all.flat()),
          Effect.forEach(ids, desk.broker.cancel, { concurrency: 5 })
        ], { concurrency: 2 })
        for (const [n, id] of ids.entries()) {
          const { state } = yield* desk.read(id)
          const taken = claimed.some((each) =>
            each.id === id
          )
          if (taken) assert.deepStrictEqual([answers[n], state], ["Requested", "cancelling"])
          else assert.deepStrictEqual([answers[n], state], ["Cancelled", "cancelled"])
        }
      }))

    it.effect("the same settlement many times leaves one attempt", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const answers = yield* Effect.all(
          Array.from({ length: 20 }, (_, n) => worker.settle(claimed, n % 2 === 0 ? succeeded() : failed())),
          { concurrency: "unbounded" }
        )
        assert.isTrue(answers.every((answer) => answer === "Settled"))
        assert.strictEqual((yield* desk.broker.attempts(id)).length, 1)
      }))

    it.effect("many ticks reap a lapsed supervisor once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* desk.enqueueMany(20)
        const gone = yield* desk.hire()
        assert.strictEqual((yield* gone.claim(20)).length, 20)
        yield* advance(pastLease)
        const workers = yield* Effect.all(Array.from({ length: 8 }, () => desk.hire()))
        yield* Effect.forEach(workers, (worker) => worker.tick, { concurrency: "unbounded" })
        for (const id of ids) {
          const record = yield* desk.read(id)
          assert.deepStrictEqual([record.state, record.losses], ["queued", 1])
          assert.strictEqual((yield* desk.broker.attempts(id)).length, 1)
        }
      }))

    it.effect("a settlement and a reaper leave one of the two", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(40)
        const late = yield* desk.hire()
        const claimed = yield* late.claim(40)
        yield* advance(pastLease)
        const other = yield* desk.hire()
        const [answers] = yield* Effect.all([
          Effect.forEach(claimed, (each) => late.settle(each, succeeded()), { concurrency: 8 }),
          other.tick
        ], { concurrency: 2 })
        for (const [n, { id }] of claimed.entries()) {
          const record = yield* desk.read(id)
          const expected = answers[n] === "Settled" ? ["succeeded", 0] : ["queued", 1]
          assert.deepStrictEqual([record.state, record.losses], expected)
          assert.strictEqual((yield* desk.broker.attempts(id)).length, 1)
        }
      }))

    it.effect("a reaper and a claim of the lapsed supervisor leave nothing running under nobody", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* desk.enqueueMany(60)
        const late = yield* desk.hire()
        yield* late.claim(20)
        const other = yield* desk.hire()
        const claims = Effect.all(Array.from({ length: 8 }, () => late.claim(5)), { concurrency: 4 })
        yield* Effect.all([claims, Effect.andThen(advance(pastLease), other.tick)], { concurrency: 2 })
        yield* advance(pastLease)
        const last = yield* desk.hire()
        yield* last.tick
        for (const id of ids) assert.strictEqual((yield* desk.read(id)).state, "queued")
      }))

    it.effect.each([1, 2, 3, 4, 5, 6])(
      "random verbs record one outcome an execution (seed %i)",
      (seed) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const { below } = makeRandom(seed)
          const ids = yield* Effect.map(
            desk.broker.enqueue(
              Array.from(
                { length: 40 },
                () => desk.execution({ priority: below(10), maxAttempts: 1 + below(4), atMostOnce: below(5) === 0 })
              )
            ),
            (answers) => answers.map(({ id }) => id)
          )
          const ledger: Ledger = { held: [], acknowledged: new Map(), ended: new Map() }
          yield* Effect.forEach(
            [1, 2, 3],
            (n) => actor({ desk, ids, ledger, advance, seed: seed * 1_000 + n, steps: 100 }),
            { concurrency: "unbounded" }
          )
          yield* drain(desk, advance, ids)
          for (const id of ids) {
            const record = yield* observe(desk, ledger, id)
            const attempts = yield* desk.broker.attempts(id)
            const fences = attempts.map(({ fence }) => fence)
            assert.strictEqual(new Set(fences).size, fences.length, "one attempt a fence")
            const last = attempts.at(-1)
            if (last !== undefined) assert.include(terminalOutcomes[record.state] ?? [], last.outcome)
            else assert.strictEqual(record.state, "cancelled")
            const ends = attempts.filter(({ outcome }) => outcome === "succeeded" || outcome === "failed")
            assert.isAtMost(ends.length, 1)
            assert.isTrue(ends.length === 0 || ends[0] === last, "an end is the last attempt")
            assert.strictEqual(
              record.attempts,
              attempts.filter(({ outcome }) => outcome === "succeeded" || outcome === "failed" || outcome === "retry")
                .length
            )
            assert.isTrue(Option.isSome(record.result))
          }
          // What was acknowledged as an end is the recorded end.
          for (const [key, outcome] of ledger.acknowledged) {
            if (outcome._tag !== "Succeeded" && outcome._tag !== "Failed") continue
            const [id, fence] = key.split("/")
            const attempt = (yield* desk.broker.attempts(id!)).find((each) => String(each.fence) === fence)
            assert.isDefined(attempt, `${key} was acknowledged`)
          }
        })
    )
  })
}

/** Senders, owners and children at the same time: nothing is lost, and nothing is done twice. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Unread } from "../../src/RunStore.ts"
import {
  type Advance,
  type Claim,
  entry,
  eventually,
  type It,
  keysOf,
  makeDesk,
  moved,
  over,
  pastLease,
  waiting,
  type Worker
} from "./kit.ts"

/** A small generator, so that a failure can be repeated. */
const makeRandom = (seed: number) => {
  let state = seed
  return (below: number): number => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return Math.floor(state / 65_536) % below
  }
}

export const racePromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("at once", () => {
    it.effect("a message and a suspension lose no message", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const count = 100
        yield* Effect.forEach(Array.from({ length: count }), () => desk.start(), { concurrency: "unbounded" })
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(count)
        yield* Effect.forEach(claimed, (run, n) => {
          const pair = [Effect.asVoid(worker.commit(run, { next: waiting() })), desk.send(run.id, "a")]
          return Effect.all(n % 2 === 0 ? pair : pair.reverse(), { concurrency: 2 })
        }, { concurrency: 10 })
        for (const { id } of claimed) {
          yield* eventually("it does not sleep", Effect.map(desk.stateOf(id), (state) => state !== "waiting"))
        }
      }))

    it.effect.each([1, 2, 3, 4])(
      "random senders and owners lose and double nothing (seed %i)",
      (seed) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const below = makeRandom(seed)
          const ids = yield* Effect.forEach(Array.from({ length: 8 }), () => desk.start())
          const sent = new Map(ids.map((id) => [id, new Array<string>()]))
          let sending = true

          const sender = Effect.gen(function*() {
            for (let n = 0; n < 60; n++) {
              const id = ids[below(ids.length)]!
              const key = `signal:${n}`
              sent.get(id)!.push(key)
              yield* desk.send(id, key)
            }
            sending = false
          })

          /** Reads what there is, and waits; now and then it is slow, and lapses. */
          const live = (worker: Worker, first: Claim, unread: ReadonlyArray<Unread>) =>
            Effect.gen(function*() {
              let claim = first
              let left = unread
              while (true) {
                const entries = [...left.map(moved), ...below(3) === 0 ? [entry(`step:${claim.length}`)] : []]
                const answer = yield* worker.commit(claim, { entries, next: waiting() })
                if (answer._tag === "Lost" || answer.state !== "running") return
                claim = { ...claim, length: claim.length + entries.length }
                left = answer.unread
              }
            })

          const owner = Effect.gen(function*() {
            let worker = yield* desk.hire()
            while (sending) {
              if (below(10) === 0) {
                yield* advance(pastLease)
                worker = yield* desk.hire()
                yield* worker.tick
              }
              yield* advance("100 millis")
              const claimed = yield* worker.claim(3)
              yield* Effect.forEach(claimed, (run) => live(worker, run, run.unread), { concurrency: "unbounded" })
              yield* Effect.yieldNow
            }
          })
          yield* Effect.all([sender, owner, owner], { concurrency: "unbounded" })

          const last = yield* desk.hire()
          for (const [id, keys] of sent) {
            yield* eventually(
              `all is read by ${id}`,
              Effect.gen(function*() {
                yield* advance("10 seconds")
                yield* last.tick
                // A run that was lost too often is held, and reads nothing until it is resumed.
                if (Option.isSome((yield* desk.read(id)).held)) yield* desk.send(id, "resume")
                const [run] = yield* last.claimIds([id])
                if (run !== undefined) yield* live(last, run, run.unread)
                const read = keysOf(yield* desk.runs.load(id, 0)).filter((key) => key.startsWith("signal:"))
                return read.length >= keys.length
              })
            )
            const read = keysOf(yield* desk.runs.load(id, 0)).filter((key) => key.startsWith("signal:"))
            assert.deepStrictEqual(read, keys)
          }
        })
    )

    it.effect("two owners of one fence record one end", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const results = Array.from({ length: 10 }, (_, n) => String(n))
        yield* Effect.forEach(results, (result) => worker.commit(claimed, { next: over(result) }), {
          concurrency: "unbounded"
        })
        const record = yield* desk.read(id)
        assert.strictEqual(record.state, "succeeded")
        assert.isTrue(Option.exists(record.result, (result) => results.includes(result)))
      }))
  })
}

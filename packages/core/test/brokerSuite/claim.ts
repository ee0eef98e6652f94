/** Who gets what, in which order, and with which fence. */
import { assert, describe } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type It, lost, makeDesk, retry, succeeded, uuid } from "./kit.ts"

export const claimPromises = <R>(it: It<R>): void => {
  describe("claim", () => {
    it.effect("hands out the highest priority first, then the oldest", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const priorities = [5, 0, 9, 5, 9, 1]
        const ids: Array<string> = []
        for (const priority of priorities) ids.push(yield* desk.enqueue({ priority }))
        const worker = yield* desk.hire()
        const expected = [ids[2], ids[4], ids[0], ids[3], ids[5], ids[1]]
        const first = yield* worker.claim(4)
        const second = yield* worker.claim(4)
        assert.deepStrictEqual([...first, ...second].map(({ id }) => id), expected)
      }))

    it.effect("goes by when executions became due, not by when they were enqueued", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { enqueuedAt } = yield* desk.read(yield* desk.enqueue())
        const order = [5, 2, 8, 1, 9, 4, 7, 3, 6]
        const due = (minutes: number) =>
          ({ _tag: "At", at: DateTime.subtractDuration(enqueuedAt, Duration.minutes(minutes)) }) as const
        for (const minutes of order) yield* desk.enqueue({ due: due(minutes), payload: String(minutes) })
        const worker = yield* desk.hire()
        const claimed = [...yield* worker.claim(4), ...yield* worker.claim(5)]
        assert.deepStrictEqual(claimed.map(({ payload }) => payload), ["9", "8", "7", "6", "5", "4", "3", "2", "1"])
      }))

    it.effect("orders across the lanes it is asked for", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const other = { queue: desk.lane.queue, task: `Other-${uuid()}` }
        const low = yield* desk.enqueue({ priority: 1 })
        const high = yield* desk.enqueue({ priority: 8, ...other })
        const middle = yield* desk.enqueue({ priority: 4 })
        const worker = yield* desk.hire({ lanes: [desk.lane, other] })
        assert.deepStrictEqual((yield* worker.claim()).map(({ id }) => id), [high, middle, low])
      }))

    it.effect("tells a supervisor what it holds, should a claim's answer be lost", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(3)
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(2)
        const byId = (a: { readonly id: string }, b: { readonly id: string }) => a.id.localeCompare(b.id)
        const owned = yield* desk.broker.owned(worker.id)
        assert.deepStrictEqual(
          owned.map(({ waitedMillis: _, ...rest }) => rest).sort(byId),
          claimed.map(({ waitedMillis: _, ...rest }) => rest).sort(byId)
        )
        assert.deepStrictEqual(yield* desk.broker.owned(uuid()), [])
      }))

    it.effect("takes nothing from lanes it is not asked for", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueue({ task: `Other-${uuid()}` })
        yield* desk.enqueue({ queue: `other-${uuid()}` })
        const worker = yield* desk.hire()
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("takes no more than its limit, and nothing for a limit of 0 or no lanes", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueueMany(5)
        const worker = yield* desk.hire()
        assert.strictEqual((yield* worker.claim(2)).length, 2)
        assert.strictEqual((yield* worker.claim(0)).length, 0)
        assert.deepStrictEqual(yield* desk.broker.claim({ supervisor: worker.id, lanes: [], limit: 5 }), [])
        assert.strictEqual((yield* worker.claim(5)).length, 3)
      }))

    it.effect("hands out large payloads in as many claims as it takes, each with something until there is nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const payload = `"${"x".repeat(3 * 1024 * 1024)}"`
        const ids = yield* desk.enqueueMany(10, { payload })
        const worker = yield* desk.hire()
        const claimed: Array<string> = []
        for (let claims = 0; claims < ids.length && claimed.length < ids.length; claims++) {
          const some = yield* worker.claim(10)
          assert.isAbove(some.length, 0)
          claimed.push(...some.map(({ id }) => id))
        }
        assert.deepStrictEqual(claimed, ids)
      }))

    it.effect("gives nothing to a supervisor that never registered, or has left", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        yield* desk.enqueue()
        const { broker, lane } = desk
        assert.deepStrictEqual(yield* broker.claim({ supervisor: uuid(), lanes: [lane], limit: 1 }), [])
        const worker = yield* desk.hire()
        yield* worker.leave
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("gives each execution to one owner when many claim at once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ids = yield* desk.enqueueMany(300)
        const workers = yield* Effect.all(Array.from({ length: 6 }, () => desk.hire()))
        const claimed = yield* Effect.forEach(
          workers,
          (worker) => Effect.all(Array.from({ length: 20 }, () => worker.claim(7)), { concurrency: 2 }),
          { concurrency: "unbounded" }
        )
        const taken = claimed.flat(2).map(({ id }) => id)
        assert.strictEqual(new Set(taken).size, taken.length, "no execution has two owners")
        // A claim may pass over rows that another one is looking at, so a few can be left.
        const rest = yield* workers[0]!.claim(300)
        assert.deepStrictEqual([...taken, ...rest.map(({ id }) => id)].sort(), [...ids].sort())
      }))

    it.effect("gives a new fence with every change of hands", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const before = (yield* desk.read(yield* desk.enqueue())).fence
        const [worker, other] = [yield* desk.hire(), yield* desk.hire()]
        const claimed = yield* worker.claimOne
        const fences = [before, claimed.fence]
        yield* worker.settle(claimed, { _tag: "Released" })
        const second = yield* other.claimOne
        fences.push(second.fence)
        yield* other.settle(second, retry())
        const third = yield* worker.claimOne
        fences.push(third.fence)
        yield* worker.leave
        const fourth = yield* other.claimOne
        fences.push(fourth.fence)
        assert.isTrue(fences.every((fence, n) => n === 0 || fence > fences[n - 1]!), `grows: ${fences.join(", ")}`)
        assert.strictEqual((yield* desk.read(claimed.id)).fence, fourth.fence)
      }))

    it.effect("hands a suspect out alone", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const suspect = yield* desk.enqueue({ priority: 6 })
        for (let losses = 0; losses < 2; losses++) {
          const claimed = yield* worker.claimOne
          assert.strictEqual(claimed.losses, losses)
          yield* worker.settle(claimed, lost())
        }
        const others = [
          yield* desk.enqueue({ priority: 9 }),
          yield* desk.enqueue({ priority: 6 }),
          yield* desk.enqueue({ priority: 2 })
        ]
        const seen: Array<string> = []
        for (let claims = 0; claims < 5 && seen.length < 4; claims++) {
          const claimed = yield* worker.claim(10)
          if (claimed.some(({ id }) => id === suspect)) {
            assert.strictEqual(claimed.length, 1, "the suspect has no company")
            assert.strictEqual(claimed[0]!.losses, 2)
          }
          for (const each of claimed) {
            seen.push(each.id)
            yield* worker.settle(each, succeeded())
          }
        }
        assert.deepStrictEqual([...seen].sort(), [suspect, ...others].sort())
      }))

    it.effect("hands two suspects out one at a time", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        yield* desk.enqueueMany(2)
        for (let losses = 0; losses < 2; losses++) {
          for (const claimed of yield* worker.claim(2)) yield* worker.settle(claimed, lost())
        }
        assert.strictEqual((yield* worker.claim()).length, 1)
        assert.strictEqual((yield* worker.claim()).length, 1)
        assert.strictEqual((yield* worker.claim()).length, 0)
      }))
  })
}

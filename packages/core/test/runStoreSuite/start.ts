/** What a started run is, and that an id is started once. */
import { assert, describe } from "@effect/vitest"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Envelope from "../../src/Envelope.ts"
import { queue } from "../../src/RunStore.ts"
import { type Advance, done, type It, makeDesk, over, pastLease, uuid } from "./kit.ts"

export const startPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("start", () => {
    it.effect("stores a run that can be read and claimed, as it was given", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const traceparent = Option.some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        const payload = "{\"url\": \"https://example.org/ü?q='; --\"}"
        const given = desk.run({ name: "an order: ü', \\", payload, traceparent })
        assert.deepStrictEqual(yield* desk.startAs(given, Option.none()), { _tag: "Stored" })

        const record = yield* desk.read(given.id)
        assert.strictEqual(record.state, "queued")
        assert.deepStrictEqual([record.queue, record.task], [queue, desk.workflow])
        assert.strictEqual(record.payload, payload)
        assert.strictEqual(record.format, Envelope.format)
        assert.deepStrictEqual([record.attempts, record.losses, record.fence], [0, 0, 0])
        assert.isTrue(Option.isNone(record.held) && Option.isNone(record.result) && Option.isNone(record.finishedAt))

        const worker = yield* desk.hire()
        const claimed = yield* worker.claimOne
        const { fence, nowMillis, startedAtMillis, ...rest } = claimed
        assert.deepStrictEqual(rest, {
          id: given.id,
          name: given.name,
          workflow: desk.workflow,
          payload,
          format: Envelope.format,
          length: 0,
          link: 1,
          expiresAtMillis: Option.none(),
          unread: [],
          traceparent
        })
        assert.isAbove(fence, 0)
        assert.closeTo(startedAtMillis, DateTime.toEpochMillis(record.enqueuedAt), 1)
        assert.isAtLeast(nowMillis, Math.floor(startedAtMillis))
        assert.strictEqual(yield* desk.stateOf(given.id), "running")
      }))

    it.effect("with an owner gives it to that supervisor, which commits at once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const run = desk.run()
        const started = yield* desk.startAs(run, Option.some(worker.id))
        assert(started._tag === "Owned")
        assert.strictEqual(yield* desk.stateOf(run.id), "running")
        assert.deepStrictEqual(yield* worker.claim(), [])
        assert.strictEqual((yield* desk.read(run.id)).fence, started.fence)
        const claim = { id: run.id, fence: started.fence, length: 0 }
        assert.deepStrictEqual(yield* worker.commit(claim, { next: over() }), done("over"))
      }))

    it.effect("with an owner that is not known, or has lapsed, stores it for others", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const lapsed = yield* desk.hire()
        yield* advance(pastLease)
        for (const owner of [uuid(), lapsed.id, "nothing like an id"]) {
          const run = desk.run()
          assert.deepStrictEqual(yield* desk.startAs(run, Option.some(owner)), { _tag: "Stored" })
          assert.strictEqual(yield* desk.stateOf(run.id), "queued")
        }
        const worker = yield* desk.hire()
        assert.lengthOf(yield* worker.claim(), 3)
      }))

    it.effect("of an id that is known changes nothing, whatever has become of the run", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const run = desk.run()
        const again = (owner: Option.Option<string>) =>
          Effect.gen(function*() {
            const before = yield* desk.read(run.id)
            const other = { ...run, name: "another", payload: "{\"n\":2}" }
            assert.deepStrictEqual(yield* desk.startAs(other, owner), { _tag: "Exists" })
            assert.deepStrictEqual(yield* desk.read(run.id), before)
          })
        assert.strictEqual((yield* desk.startAs(run, Option.none()))._tag, "Stored")
        yield* again(Option.none())
        yield* again(Option.some(worker.id))
        const claimed = yield* worker.claimOne
        assert.strictEqual(claimed.name, run.name)
        yield* again(Option.some(worker.id))
        yield* again(Option.none())
        yield* worker.commit(claimed, { next: over() })
        yield* again(Option.some(worker.id))
        yield* again(Option.none())
        assert.deepStrictEqual(yield* worker.claim(), [])

        const owned = desk.run()
        assert.strictEqual((yield* desk.startAs(owned, Option.some(worker.id)))._tag, "Owned")
        assert.strictEqual((yield* desk.startAs(owned, Option.some(worker.id)))._tag, "Exists")
      }))

    it.effect("of many at once stores each once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire()
        const runs = Array.from({ length: 60 }, () => desk.run())
        const starts = runs.flatMap((run) => [run, run, run])
        const started = yield* Effect.forEach(
          starts,
          (run, n) => desk.startAs(run, n % 2 === 0 ? Option.some(worker.id) : Option.none()),
          { concurrency: "unbounded" }
        )
        const fresh = starts.filter((_, n) => started[n]!._tag !== "Exists").map(({ id }) => id)
        assert.sameMembers(fresh, runs.map(({ id }) => id))
        const owned = started.filter(({ _tag }) => _tag === "Owned")
        assert.lengthOf(yield* worker.claim(100), runs.length - owned.length)
      }))
  })
}

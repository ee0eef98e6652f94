/** What happens to the runs of a supervisor that is gone. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { maxLosses } from "../../src/Outcome.ts"
import { makeDesk as makeTaskDesk } from "../brokerSuite/kit.ts"
import {
  type Advance,
  done,
  entry,
  inJournal,
  type It,
  keysOf,
  lost,
  makeDesk,
  moved,
  over,
  pastLease,
  uuid,
  waiting
} from "./kit.ts"

export const leasePromises = <R>(it: It<R>, advance: Advance<R>): void => {
  describe("a lease", () => {
    it.effect("that lapses gives its runs back, with a new fence, their journal and their messages", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.commit(claimed, { entries: [entry("a")] })
        yield* desk.send(id, "b")
        yield* advance(pastLease)
        const other = yield* desk.hire()
        assert.isTrue((yield* other.tick).alive)
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.losses], ["queued", 1])
        assert.isAbove(record.fence, claimed.fence)
        assert.deepStrictEqual(yield* desk.broker.attempts(id), [])

        const again = yield* other.claimOne
        assert.deepStrictEqual([again.id, again.length, keysOf(again.unread)], [id, 1, ["b"]])
        assert.isAbove(again.fence, claimed.fence)
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), [inJournal(entry("a"))])
        assert.deepStrictEqual(yield* worker.commit({ ...claimed, length: 1 }, { next: over() }), lost)
        assert.deepStrictEqual(yield* other.commit(again, { next: over() }), done("over"))
      }))

    it.effect("that lapses makes a run that was claimed before its time due", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { id, worker } = yield* desk.sleeping()
        assert.lengthOf(yield* worker.claimIds([id]), 1)
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        assert.strictEqual((yield* other.claimOne).id, id)
        yield* other.leave
        const third = yield* desk.hire()
        assert.strictEqual((yield* third.claimOne).id, id)
      }))

    it.effect("that lapses leaves alone what waits", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.sleeping()
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.losses, record.fence], ["waiting", 0, claimed.fence])
        yield* desk.send(id, "a")
        yield* desk.becomes(id, "queued")
        assert.deepStrictEqual(yield* worker.claimIds([id]), [])
        assert.lengthOf(yield* other.claimIds([id]), 1)
      }))

    /** A run that has lost so many owners in a row. */
    const losing = Effect.fnUntraced(function*(times: number) {
      const desk = yield* makeDesk
      const id = yield* desk.start()
      for (let losses = 0; losses < times; losses++) {
        const worker = yield* desk.hire()
        assert.lengthOf(yield* worker.claimIds([id]), 1)
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
      }
      return { desk, id }
    })

    it.effect("that lapses once too often lets its run wait for a person, which can resume it", () =>
      Effect.gen(function*() {
        const { desk, id } = yield* losing(maxLosses)
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.losses], ["waiting", maxLosses])
        assert.match(Option.getOrThrow(record.held), /3 workers were lost/)
        const worker = yield* desk.hire()
        assert.deepStrictEqual(yield* worker.claim(), [])
        assert.deepStrictEqual(yield* worker.claimIds([id]), [])
        assert.isTrue(Option.isNone((yield* worker.tick).nextDue))
        yield* desk.send(id, "resume")
        yield* desk.becomes(id, "queued")
        yield* advance("1 second")
        const claimed = yield* worker.claimOne
        assert.deepStrictEqual([claimed.id, keysOf(claimed.unread)], [id, ["resume"]])

        // To leave in order is no loss.
        yield* worker.leave
        assert.strictEqual(yield* desk.stateOf(id), "queued")
        const other = yield* desk.hire()
        const again = yield* other.claimOne
        const step = { entries: again.unread.map(moved), next: waiting() }
        assert.deepStrictEqual(yield* other.commit(again, step), done("waiting"))
        assert.strictEqual((yield* desk.read(id)).losses, 0)
      }))

    it.effect("that lapses counts from the last commit", () =>
      Effect.gen(function*() {
        const { desk, id } = yield* losing(maxLosses - 1)
        const worker = yield* desk.hire()
        const claimed = yield* worker.claimOne
        assert.strictEqual((yield* desk.read(id)).losses, maxLosses - 1)
        assert.deepStrictEqual(yield* worker.commit(claimed, { entries: [entry("a")] }), done("running"))
        assert.strictEqual((yield* desk.read(id)).losses, 0)
        yield* advance(pastLease)
        const other = yield* desk.hire()
        yield* other.tick
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.losses], ["queued", 1])
      }))

    it.effect("that is ended gives its runs back, and nothing counts as lost", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* worker.commit(claimed, { entries: [entry("a")] })
        yield* worker.leave
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.losses], ["queued", 0])
        assert.isAbove(record.fence, claimed.fence)
        assert.deepStrictEqual(yield* desk.broker.attempts(id), [])
        assert.deepStrictEqual(yield* worker.commit({ ...claimed, length: 1 }, { next: over() }), lost)
        const other = yield* desk.hire()
        const again = yield* other.claimOne
        assert.deepStrictEqual([again.id, again.length], [id, 1])
      }))

    it.effect("of a supervisor with tasks and runs gives back both", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const tasks = yield* makeTaskDesk
        const worker = yield* desk.hire()
        const task = yield* tasks.enqueue()
        assert.lengthOf(yield* desk.broker.claim({ supervisor: worker.id, lanes: [tasks.lane], limit: 1 }), 1)
        const owned = desk.run()
        assert.strictEqual((yield* desk.startAs(owned, Option.some(worker.id)))._tag, "Owned")
        const id = yield* desk.start()
        assert.lengthOf(yield* worker.claim(), 1)
        yield* worker.leave
        for (const run of [owned.id, id, task]) assert.strictEqual((yield* desk.read(run)).state, "queued")
        assert.strictEqual((yield* desk.startAs(desk.run(), Option.some(uuid())))._tag, "Stored")
      }))
  })
}

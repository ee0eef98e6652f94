/** Commits that are repeated because their acknowledgement was lost. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import {
  done,
  entry,
  inJournal,
  type It,
  keysOf,
  lost,
  makeDesk,
  moved,
  over,
  running,
  unreadOf,
  waiting
} from "./kit.ts"

export const repeatPromises = <R>(it: It<R>): void => {
  describe("a repeated commit", () => {
    it.effect("of a run that goes on changes nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const step = { entries: [entry("a"), entry("b")], next: running }
        for (let times = 0; times < 3; times++) {
          assert.deepStrictEqual(yield* worker.commit(claimed, step), done("running"))
          assert.deepStrictEqual(yield* desk.runs.load(id, 0), step.entries.map(inJournal))
        }
        const next = { entries: [entry("c")], next: waiting() }
        assert.deepStrictEqual(yield* worker.commit({ ...claimed, length: 2 }, next), done("waiting"))
      }))

    it.effect("of a run that waits changes nothing, also when it has been woken", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const step = { entries: [entry("a")], next: waiting({ held: "look at it" }) }
        for (let times = 0; times < 3; times++) {
          assert.deepStrictEqual(yield* worker.commit(claimed, step), done("waiting"))
          const record = yield* desk.read(id)
          assert.deepStrictEqual([record.state, record.held], ["waiting", Option.some("look at it")])
        }
        yield* desk.send(id, "resume")
        yield* desk.becomes(id, "queued")
        const again = yield* worker.commit(claimed, step)
        assert.deepStrictEqual(keysOf(unreadOf(again)), ["resume"])
        assert.deepStrictEqual(again, done("waiting", unreadOf(again)))
        assert.strictEqual(yield* desk.stateOf(id), "queued")
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), step.entries.map(inJournal))

        const [claim] = yield* worker.claimIds([id])
        assert.deepStrictEqual(yield* worker.commit(claimed, step), lost)
        assert.deepStrictEqual(keysOf(claim!.unread), ["resume"])
      }))

    it.effect("of a run that is over changes nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const step = { entries: [entry("a")], next: over("1") }
        assert.deepStrictEqual(yield* worker.commit(claimed, step), done("over"))
        const record = yield* desk.read(id)
        assert.deepStrictEqual(yield* worker.commit(claimed, step), done("over"))
        assert.deepStrictEqual(yield* worker.commit(claimed, { ...step, next: over("2", "failed") }), done("over"))
        assert.deepStrictEqual(yield* desk.read(id), record)
      }))

    it.effect("returns what is unread now, and moves no message twice", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        yield* desk.send(id, "a")
        const first = unreadOf(yield* worker.commit(claimed, {}))
        const step = { entries: first.map(moved), next: waiting() }
        yield* desk.send(id, "b")
        const answer = yield* worker.commit(claimed, step)
        assert.deepStrictEqual(keysOf(unreadOf(answer)), ["b"])
        yield* desk.send(id, "c")
        const again = yield* worker.commit(claimed, step)
        assert.deepStrictEqual(keysOf(unreadOf(again)), ["b", "c"])
        assert.deepStrictEqual(again, done("running", unreadOf(again)))
        assert.deepStrictEqual(keysOf(yield* desk.runs.load(id, 0)), ["a"])
      }))

    it.effect("starts no child twice, and tells of no end twice", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ended = yield* desk.holding()
        yield* ended.worker.commit(ended.claimed, { next: over("1") })
        const { claimed, worker } = yield* desk.holding()
        const [fresh, known] = [desk.run(), desk.run({ id: ended.id })]
        const children = [fresh, known].map((run) => ({ run, detached: false }))
        for (const entries of [[entry("child")], []]) {
          const claim = { ...claimed, length: entries.length === 0 ? 1 : 0 }
          for (let times = 0; times < 2; times++) {
            const answer = yield* worker.commit(claim, { entries, children })
            assert.deepStrictEqual(keysOf(unreadOf(answer)), [`end:${known.id}`])
          }
        }
        assert.strictEqual(yield* desk.stateOf(fresh.id), "queued")
      }))

    it.effect("is as good as the first one when both arrive at once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        for (const next of [running, waiting(), over()]) {
          const { claimed, id, worker } = yield* desk.holding()
          const step = { entries: [entry("a")], next }
          const answers = yield* Effect.all(Array.from({ length: 5 }, () => worker.commit(claimed, step)), {
            concurrency: "unbounded"
          })
          assert.strictEqual(new Set(answers.map((answer) => JSON.stringify(answer))).size, 1)
          assert.deepStrictEqual(
            yield* desk.runs.load(id, 0),
            next._tag === "Over" ? [] : [inJournal(entry("a"))]
          )
        }
      }))
  })
}

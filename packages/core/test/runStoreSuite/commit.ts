/** What a commit records. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { maxLoaded } from "../../src/RunStore.ts"
import { done, entry, inJournal, type It, lost, makeDesk, over, running, uuid, waiting } from "./kit.ts"

export const commitPromises = <R>(it: It<R>): void => {
  describe("commit", () => {
    it.effect("appends entries in their order, which load returns from any position", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const entries = [
          entry("step:charge/1", { value: "{\"a\":\"ü \\u0000 \\\\\"}", atMillis: 0 }),
          entry("signal:approve", { source: "outside", value: "null", atMillis: 1_700_000_000_001 }),
          entry("step:charge/1", { value: "2", atMillis: 4_102_444_800_999 }),
          entry("", { value: "" })
        ]
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), [])
        assert.deepStrictEqual(yield* worker.commit(claimed, { entries: entries.slice(0, 1) }), done("running"))
        assert.deepStrictEqual(
          yield* worker.commit({ ...claimed, length: 1 }, { entries: entries.slice(1), next: waiting() }),
          done("waiting")
        )
        const journal = entries.map(inJournal)
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), journal)
        assert.deepStrictEqual(yield* desk.runs.load(id, 3), journal.slice(3))
        assert.deepStrictEqual(yield* desk.runs.load(id, 4), [])
        assert.deepStrictEqual(yield* desk.runs.load(id, 1_000_000), [])
      }))

    it.effect("of a run that goes on leaves it with its owner", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: running }), done("running"))
        assert.strictEqual(yield* desk.stateOf(id), "running")
        assert.deepStrictEqual(yield* worker.claim(), [])
      }))

    it.effect("of a run that waits gives it back, with the same fence", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: waiting() }), done("waiting"))
        const record = yield* desk.read(id)
        assert.deepStrictEqual([record.state, record.fence], ["waiting", claimed.fence])
        assert.isTrue(Option.isNone(record.held) && Option.isNone(record.result))
        assert.deepStrictEqual(yield* worker.commit(claimed, { entries: [entry("a")] }), lost)
      }))

    it.effect.each(["succeeded", "failed", "cancelled"] as const)(
      "ends a run as %s, with its result",
      (state) =>
        Effect.gen(function*() {
          const desk = yield* makeDesk
          const { claimed, id, worker } = yield* desk.holding()
          const result = "{\"it is\": \"ü\"}"
          const ended = yield* worker.commit(claimed, { entries: [entry("a")], next: over(result, state) })
          assert.deepStrictEqual(ended, done("over"))
          const record = yield* desk.read(id)
          assert.deepStrictEqual([record.state, record.result], [state, Option.some(result)])
          assert.deepStrictEqual([record.attempts, record.losses, record.fence], [0, 0, claimed.fence])
          assert.isTrue(Option.isSome(record.finishedAt))
          assert.deepStrictEqual(yield* desk.broker.attempts(id), [])
          assert.deepStrictEqual(yield* desk.runs.load(id, 0), [])
          assert.deepStrictEqual(yield* worker.claimIds([id]), [])
        })
    )

    it.effect("with an old fence, by another supervisor, or of a run that is not known is lost", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const other = yield* desk.hire()
        const step = { entries: [entry("a")], next: over() }
        assert.deepStrictEqual(yield* other.commit(claimed, step), lost)
        for (const fence of [claimed.fence - 1, claimed.fence + 1, 0.5, Number.NaN, Infinity, 2 ** 60]) {
          assert.deepStrictEqual(yield* worker.commit({ ...claimed, fence }, step), lost)
        }
        for (const unknown of [uuid(), "nothing like an id"]) {
          assert.deepStrictEqual(yield* worker.commit({ ...claimed, id: unknown }, step), lost)
        }
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), [])
        assert.strictEqual(yield* desk.stateOf(id), "running")

        yield* worker.commit(claimed, { next: waiting() })
        assert.deepStrictEqual(yield* other.commit(claimed, { next: waiting() }), lost)
        const [again] = yield* worker.claimIds([id])
        yield* worker.commit(again!, { next: over() })
        assert.deepStrictEqual(yield* other.commit(again!, { next: over() }), lost)
        assert.deepStrictEqual(yield* worker.commit(claimed, { next: over() }), lost)
      }))

    it.effect("that does not continue the journal is lost", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const two = [entry("a"), entry("b")]
        yield* worker.commit(claimed, { entries: two })
        for (
          const step of [
            { length: 0, entries: [entry("c"), entry("d")] },
            { length: 0, entries: [entry("a")] },
            { length: 1, entries: [] },
            { length: 1, entries: two },
            { length: 3, entries: two }
          ]
        ) assert.deepStrictEqual(yield* worker.commit(claimed, { ...step, next: over() }), lost)
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), two.map(inJournal))
        assert.strictEqual(yield* desk.stateOf(id), "running")
      }))

    it.effect("of many runs at once records what each did", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const count = 150
        yield* Effect.forEach(Array.from({ length: count }), () => desk.start(), { concurrency: "unbounded" })
        const worker = yield* desk.hire()
        const claimed = yield* worker.claim(count)
        assert.lengthOf(claimed, count)
        const nexts = [running, waiting(), over()]
        const answers = yield* Effect.forEach(
          claimed,
          (run, n) => worker.commit(run, { entries: [entry(`a${n}`)], next: nexts[n % 3]! }),
          { concurrency: "unbounded" }
        )
        const states = ["running", "waiting", "over"] as const
        assert.deepStrictEqual(answers, claimed.map((_, n) => done(states[n % 3]!)))
        const journals = yield* Effect.forEach(claimed, ({ id }) => desk.runs.load(id, 0), { concurrency: "unbounded" })
        assert.deepStrictEqual(
          journals,
          claimed.map((_, n) => n % 3 === 2 ? [] : [inJournal(entry(`a${n}`))])
        )
      }))

    it.effect("keeps a long journal, which is loaded in parts", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const entries = Array.from({ length: maxLoaded + 5 }, (_, n) => entry(`step:${n}`))
        yield* worker.commit(claimed, { entries })
        const first = yield* desk.runs.load(id, 0)
        assert.lengthOf(first, maxLoaded)
        const rest = yield* desk.runs.load(id, maxLoaded)
        assert.deepStrictEqual([...first, ...rest], entries.map(inJournal))
        assert.deepStrictEqual(
          yield* worker.commit({ ...claimed, length: entries.length }, { next: over() }),
          done("over")
        )
      }))

    it.effect("keeps large values, and loads them all", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const value = JSON.stringify("x".repeat(3 * 1024 * 1024))
        const entries = Array.from({ length: 8 }, (_, n) => entry(`step:${n}`, { value }))
        yield* worker.commit(claimed, { entries })
        assert.deepStrictEqual(yield* desk.runs.load(id, 0), entries.map(inJournal))
        assert.deepStrictEqual(yield* worker.commit({ ...claimed, length: 8 }, { next: over() }), done("over"))
      }))
  })
}

/** Runs that start others, and how they learn of the ends. */
import { assert, describe } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { done, entry, eventually, type It, keysOf, makeDesk, moved, over, unreadOf, waiting } from "./kit.ts"

export const childPromises = <R>(it: It<R>): void => {
  describe("children", () => {
    it.effect("are stored queued, with the commit of their parent", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, worker } = yield* desk.holding()
        const traceparent = Option.some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        const runs = Array.from({ length: 3 }, (_, n) => desk.run({ payload: `{"n":${n}}`, traceparent }))
        const children = runs.map((run, n) => ({ run, detached: n === 2 }))
        const step = { entries: [entry("child")], children, next: waiting() }
        assert.deepStrictEqual(yield* worker.commit(claimed, step), done("waiting"))
        const found = yield* worker.claim()
        assert.sameMembers(found.map(({ id }) => id), runs.map(({ id }) => id))
        for (const { id, name, payload, traceparent: stored, unread } of found) {
          const given = runs.find((run) => run.id === id)!
          assert.deepStrictEqual([name, payload, stored, unread], [given.name, given.payload, traceparent, []])
        }
      }))

    it.effect("wake their parent when they end, with their result", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        for (const state of ["succeeded", "failed", "cancelled"] as const) {
          const { claimed, id, worker } = yield* desk.holding()
          const child = desk.run()
          yield* worker.commit(claimed, { children: [{ run: child, detached: false }], next: waiting() })
          const [own] = yield* worker.claimIds([child.id])
          yield* worker.commit(own!, { entries: [entry("a")], next: over("{\"it is\": 1}", state) })
          yield* desk.becomes(id, "queued")
          const [again] = yield* worker.claimIds([id])
          assert.deepStrictEqual(
            again!.unread.map(({ key, value }) => [key, value]),
            [[`end:${child.id}`, "{\"it is\": 1}"]]
          )
          const step = { entries: again!.unread.map(moved), next: waiting() }
          assert.deepStrictEqual(yield* worker.commit(again!, step), done("waiting"))
        }
      }))

    it.effect("that have ended before are told of at once", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const child = yield* desk.holding()
        yield* child.worker.commit(child.claimed, { next: over("1") })
        const { claimed, worker } = yield* desk.holding()
        const children = [{ run: desk.run({ id: child.id }), detached: false }]
        const answer = yield* worker.commit(claimed, { children, next: waiting() })
        assert.deepStrictEqual(
          unreadOf(answer).map(({ key, value }) => [key, value]),
          [[`end:${child.id}`, "1"]]
        )
        assert.deepStrictEqual(answer, done("running", unreadOf(answer)))
      }))

    it.effect("that run already are joined, whatever their payload", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const child = yield* desk.holding()
        const { claimed, id, worker } = yield* desk.holding()
        const children = [{ run: desk.run({ id: child.id, payload: "2" }), detached: false }]
        assert.deepStrictEqual(yield* worker.commit(claimed, { children, next: waiting() }), done("waiting"))
        assert.deepStrictEqual((yield* desk.read(child.id)).payload, "{\"n\":1}")
        yield* child.worker.commit(child.claimed, { next: over() })
        yield* desk.becomes(id, "queued")
      }))

    it.effect("of two parents tell both", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const parents = [yield* desk.holding(), yield* desk.holding()]
        const child = desk.run()
        for (const { claimed, worker } of parents) {
          yield* worker.commit(claimed, { children: [{ run: child, detached: false }], next: waiting() })
        }
        const worker = yield* desk.hire()
        const [own] = yield* worker.claimIds([child.id])
        yield* worker.commit(own!, { next: over() })
        for (const { id } of parents) {
          yield* desk.becomes(id, "queued")
          const [again] = yield* worker.claimIds([id])
          assert.deepStrictEqual(keysOf(again!.unread), [`end:${child.id}`])
        }
      }))

    it.effect("that are detached tell nothing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const ended = yield* desk.holding()
        yield* ended.worker.commit(ended.claimed, { next: over() })
        const { claimed, id, worker } = yield* desk.holding()
        const fresh = desk.run()
        const children = [fresh, desk.run({ id: ended.id })].map((run) => ({ run, detached: true }))
        assert.deepStrictEqual(yield* worker.commit(claimed, { children, next: waiting() }), done("waiting"))
        const [own] = yield* worker.claimIds([fresh.id])
        yield* worker.commit(own!, { next: over() })
        const witness = yield* desk.sleeping()
        yield* desk.send(witness.id, "a")
        yield* desk.becomes(witness.id, "queued")
        assert.strictEqual(yield* desk.stateOf(id), "waiting")
      }))

    it.effect("that end at the same time tell their parent of each", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const { claimed, id, worker } = yield* desk.holding()
        const runs = Array.from({ length: 40 }, () => desk.run())
        yield* worker.commit(claimed, { children: runs.map((run) => ({ run, detached: false })), next: waiting() })
        const own = yield* worker.claimIds(runs.map((run) => run.id))
        assert.lengthOf(own, runs.length)
        yield* Effect.forEach(own, (run) => worker.commit(run, { next: over() }), { concurrency: "unbounded" })
        yield* desk.becomes(id, "queued")
        const [again] = yield* worker.claimIds([id])
        let unread = again!.unread
        yield* eventually(
          "all are told of",
          Effect.map(worker.commit(again!, {}), (answer) => {
            unread = unreadOf(answer)
            return unread.length === runs.length
          })
        )
        assert.sameMembers([...keysOf(unread)], runs.map((run) => `end:${run.id}`))
      }))

    it.effect("that end while their parent attaches itself are not missed", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        for (let rounds = 0; rounds < 20; rounds++) {
          const child = yield* desk.holding()
          const { claimed, id, worker } = yield* desk.holding()
          const children = [{ run: desk.run({ id: child.id }), detached: false }]
          const [answer] = yield* Effect.all([
            worker.commit(claimed, { children, next: waiting() }),
            child.worker.commit(child.claimed, { next: over() })
          ], { concurrency: 2 })
          if (answer._tag === "Done" && answer.state === "running") {
            assert.deepStrictEqual(keysOf(unreadOf(answer)), [`end:${child.id}`])
          } else yield* desk.becomes(id, "queued")
        }
      }))

    it.effect("that wait for each other do not keep each other from committing", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const count = 12
        const held = yield* Effect.forEach(Array.from({ length: count }), () => desk.holding())
        // A ring: each joins the next one, all at once.
        const answers = yield* Effect.forEach(
          held,
          ({ claimed, worker }, n) =>
            worker.commit(claimed, {
              entries: [entry("child")],
              children: [{ run: desk.run({ id: held[(n + 1) % count]!.id }), detached: false }],
              next: waiting()
            }),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(answers, held.map(() => done("waiting")))
      }))
  })
}

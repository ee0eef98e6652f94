/** What is done periodically, once for all supervisors. */
import { assert, describe } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Duty } from "../../src/Broker.ts"
import { type Advance, type It, lease, makeDesk, pastLease, uuid } from "./kit.ts"

export const upkeepPromises = <R>(it: It<R>, advance: Advance<R>): void => {
  /** A duty that no broker has. */
  const makeDuty = (interval: Duration.Duration): Duty => ({
    name: `duty ${uuid()}`,
    interval,
    perform: Effect.succeed(false)
  })

  describe("upkeep", () => {
    it.effect("takes a duty's turn once in its interval, however many supervisors try, and the next times too", () =>
      Effect.gen(function*() {
        const { broker } = yield* makeDesk
        const duty = makeDuty(Duration.minutes(1))
        for (let turn = 0; turn < 3; turn++) {
          const taken = yield* Effect.forEach(Array.from({ length: 10 }), () => broker.takeTurn(duty), {
            concurrency: "unbounded"
          })
          assert.strictEqual(taken.filter((mine) => mine).length, 1)
          yield* advance(Duration.seconds(59))
          assert.isFalse(yield* broker.takeTurn(duty))
          yield* advance(Duration.seconds(2))
        }
      }))

    it.effect("tells by a tick which duties are due, of those asked about", () =>
      Effect.gen(function*() {
        const { broker, lane } = yield* makeDesk
        const supervisor = uuid()
        const lanes = [lane]
        yield* broker.register({ supervisor, label: "suite", lanes, lease })
        const [first, second] = [makeDuty(Duration.minutes(1)), makeDuty(Duration.minutes(1))]
        const due = Effect.map(
          broker.tick({ supervisor, lanes, lease: Duration.hours(1), duties: [first.name, second.name] }),
          ({ dueDuties }) => [...dueDuties].sort()
        )
        assert.deepStrictEqual(yield* due, [first.name, second.name].sort())
        yield* broker.takeTurn(first)
        assert.deepStrictEqual(yield* due, [second.name])
        yield* advance(Duration.minutes(2))
        assert.deepStrictEqual(yield* due, [first.name, second.name].sort())
        yield* broker.unregister(supervisor)
      }))

    it.effect("is not due where there is nothing to reap or to expire", () =>
      Effect.gen(function*() {
        const desk = yield* makeDesk
        const worker = yield* desk.hire({ lease: Duration.hours(10) })
        // Others of the suite may have left some.
        yield* worker.tick
        const tick = desk.broker.tick({
          supervisor: worker.id,
          lanes: [desk.lane],
          lease: Duration.hours(10),
          duties: ["reap", "expire"]
        })
        yield* advance(Duration.seconds(2))
        assert.deepStrictEqual((yield* tick).dueDuties, [])
        yield* desk.holding()
        yield* desk.enqueue({ startBy: Option.some({ _tag: "After", delay: Duration.minutes(1) }) })
        yield* advance(pastLease)
        yield* advance(Duration.minutes(2))
        assert.deepStrictEqual([...(yield* tick).dueDuties].sort(), ["expire", "reap"])
        yield* worker.tick
        yield* advance(Duration.seconds(2))
        assert.deepStrictEqual((yield* tick).dueDuties, [])
      }))

    it.effect("of a broker has names that differ, and every part of it can be done when there is nothing to do", () =>
      Effect.gen(function*() {
        const { broker } = yield* makeDesk
        assert.isNotEmpty(broker.duties)
        assert.strictEqual(new Set(broker.duties.map(({ name }) => name)).size, broker.duties.length)
        for (const { interval, perform } of broker.duties) {
          assert.isAbove(Duration.toMillis(interval), 0)
          yield* Effect.repeat(perform, { while: (more) => more })
          assert.isFalse(yield* perform)
        }
      }))
  })
}

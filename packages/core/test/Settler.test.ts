/** What waits to be settled, when something is due, and how many lines are logged of one kind. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as TestClock from "effect/testing/TestClock"
import { makeDue } from "../src/internal/due.ts"
import { makeLineBudget } from "../src/internal/lineBudget.ts"
import { makeSettler, maxSettle, maxSettleLength, maxUnsettled, type Pending } from "../src/internal/settler.ts"
import { Outcome } from "../src/Outcome.ts"

const pending = (length = 1): Pending => ({
  id: "id",
  fence: 1,
  outcome: Outcome.Returned(),
  place: Option.none(),
  length
})

describe("Settler", () => {
  it("hands out in order, no more than a statement carries", () => {
    const settler = makeSettler()
    const first = pending()
    settler.add([first, ...Array.from({ length: maxSettle }, () => pending())])
    const batch = settler.take()
    assert.strictEqual(batch[0], first)
    assert.deepStrictEqual([batch.length, settler.take().length, settler.take().length], [maxSettle, 1, 0])
    settler.add([pending(2 * maxSettleLength), pending(), pending(maxSettleLength)])
    assert.deepStrictEqual(Array.from({ length: 4 }, () => settler.take().length), [1, 1, 1, 0])
  })

  it("is full when too many wait, until they are taken or dropped", () => {
    const settler = makeSettler()
    settler.add(Array.from({ length: maxUnsettled }, () => pending()))
    assert.isTrue(settler.isFull())
    settler.take()
    assert.isFalse(settler.isFull())
    settler.clear()
    assert.deepStrictEqual(settler.take(), [])
  })

  it.effect("wakes who waits, each time", () =>
    Effect.gen(function*() {
      const settler = makeSettler()
      for (let times = 0; times < 3; times++) {
        assert.deepStrictEqual(settler.take(), [])
        const waiting = yield* Effect.forkChild(settler.await, { startImmediately: true })
        assert.isUndefined(waiting.pollUnsafe())
        settler.add([pending()])
        yield* Fiber.join(waiting)
        assert.lengthOf(settler.take(), 1)
      }
    }))
})

describe("Due", () => {
  const waiting = (due: ReturnType<typeof makeDue>, moment = Number.POSITIVE_INFINITY) =>
    Effect.forkChild(due.wait(moment), { startImmediately: true })

  it.effect("waits for the earliest of what is due, for a moment, or to be opened", () =>
    Effect.gen(function*() {
      const clock = { millis: 0 }
      const pass = (millis: number) => {
        clock.millis += millis
        return TestClock.adjust(millis)
      }
      const due = makeDue(() => clock.millis)
      for (let times = 0; times < 2; times++) {
        due.after(5_000)
        due.after(2_000)
        due.after(9_000)
        due.close()
        const first = yield* waiting(due)
        yield* pass(1_999)
        assert.isUndefined(first.pollUnsafe())
        yield* pass(1)
        yield* Fiber.join(first)
      }
      due.close()
      const moment = yield* waiting(due, clock.millis + 100)
      yield* pass(100)
      yield* Fiber.join(moment)
      const opened = yield* waiting(due)
      yield* pass(1_000_000)
      assert.isUndefined(opened.pollUnsafe())
      due.open()
      yield* Fiber.join(opened)
    }))

  it("doubts until the question is asked", () => {
    const due = makeDue(() => 0)
    assert.isFalse(due.isDoubtful())
    due.doubt()
    assert.isTrue(due.isDoubtful())
    due.resolve()
    assert.isFalse(due.isDoubtful())
  })
})

describe("Line budget", () => {
  it("lets so many lines through in a minute, says once that there are more, and begins anew", () => {
    const clock = { millis: 59_000 }
    const budget = makeLineBudget(2, () => clock.millis)
    const spend = (times: number) => Array.from({ length: times }, budget.spend)
    assert.deepStrictEqual(spend(5), ["line", "line", "rest", "none", "none"])
    clock.millis = 60_000
    assert.deepStrictEqual(spend(4), ["line", "line", "rest", "none"])
  })
})

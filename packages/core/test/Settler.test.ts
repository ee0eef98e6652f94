/** Settlements that wait: their order, their bounds, and what wakes the loop. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
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

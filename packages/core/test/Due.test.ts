/** When a claim is worth making. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { makeDue } from "../src/internal/due.ts"

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

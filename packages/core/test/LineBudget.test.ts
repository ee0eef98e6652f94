/** How many lines of one kind are logged in a minute. */
import { assert, describe, it } from "@effect/vitest"
import { makeLineBudget } from "../src/internal/lineBudget.ts"

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

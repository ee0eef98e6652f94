/** Waiting for an answer, without a server. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { answered } from "../src/internal/answered.ts"

describe("An answer", () => {
  for (const patience of [Duration.infinity, Duration.days(25), Duration.days(1_000)]) {
    it.live(`is waited for with a patience of ${Duration.format(patience)}`, () =>
      Effect.gen(function*() {
        const statement = Effect.as(Effect.sleep("100 millis"), "here")
        assert.strictEqual(yield* answered(statement, patience), "here")
        assert.strictEqual(yield* answered(statement, patience, { characters: 1_000 }), "here")
      }))
  }
})

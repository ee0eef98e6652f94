import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/testing/TestClock"
import { waitFor } from "../src/internal/patience.ts"

const options = {
  isOutage: () => true,
  silent: () => new Error("no answer in time")
}

describe("patience", () => {
  it.effect("ends though what is waited for says nothing", () =>
    Effect.gen(function*() {
      for (const [patience, end] of [[0, 10], [3, 5], [60, 62]] as const) {
        const waiting = yield* Effect.forkChild(
          Effect.flip(waitFor("it", Effect.never, { ...options, patience: Duration.seconds(patience) }))
        )
        yield* TestClock.adjust(Duration.seconds(end))
        assert.strictEqual((yield* Fiber.join(waiting)).message, "no answer in time")
      }
    }))
})

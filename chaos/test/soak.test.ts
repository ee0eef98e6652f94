import { assert, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as soak from "../src/soak/soak.ts"

it.live("a steady load ends as it should and leaves nothing", () =>
  Effect.gen(function*() {
    const { enqueued, left, series, wrong } = yield* soak.run({
      duration: Duration.seconds(20),
      interval: Duration.seconds(2),
      rate: 20,
      tell: () => Effect.void
    })
    assert.isAbove(enqueued, 50)
    assert.deepStrictEqual(wrong, [])
    assert.deepStrictEqual(Object.fromEntries(left), { executions: 0, holds: 0, waiters: 0 })
    for (
      const name of [
        "memory worker",
        "memory gateway",
        "memory node host",
        "memory python host",
        "logs",
        "rows history"
      ]
    ) {
      assert.isAbove(series.get(name)?.values.at(-1) ?? 0, 0, name)
    }
  }), 600_000)

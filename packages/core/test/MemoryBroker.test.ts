import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import { TestClock } from "effect/testing"
import * as Limits from "../src/Limits.ts"
import * as MemoryBroker from "../src/MemoryBroker.ts"
import { brokerSuite } from "./BrokerSuite.ts"
import { makeDesk } from "./brokerSuite/kit.ts"

brokerSuite("MemoryBroker", { layer: MemoryBroker.layer, advance: TestClock.adjust, live: false })

it.effect("MemoryBroker says once of an awaited execution that no worker serves it, when it has been due for long", () => {
  const lines: Array<unknown> = []
  const logger = Logger.make(({ logLevel, message }) => {
    if (logLevel === "Warn") lines.push(message)
  })
  return Effect.gen(function*() {
    const desk = yield* makeDesk
    const waiting = Effect.fnUntraced(function*(id: string) {
      return yield* Effect.forkChild(desk.broker.awaitTerminal(id), { startImmediately: true })
    })
    const later = yield* desk.enqueue({ due: { _tag: "After", delay: Limits.unservedPatience } })
    const fiber = yield* waiting(later)
    yield* TestClock.adjust("15 seconds")
    assert.lengthOf(lines, 0)
    yield* TestClock.adjust("20 seconds")
    assert.lengthOf(lines, 1)
    yield* TestClock.adjust("10 minutes")
    assert.lengthOf(lines, 1)
    yield* Fiber.interrupt(fiber)

    // Not of what runs, nor while a worker lives that serves its lane and has no room.
    const worker = yield* desk.hire()
    const running = yield* waiting(later)
    assert.lengthOf(yield* worker.claim(), 1)
    const queued = yield* waiting(yield* desk.enqueue())
    yield* TestClock.adjust("30 seconds")
    assert.lengthOf(lines, 1)
    yield* Fiber.interruptAll([running, queued])
  }).pipe(Effect.provide(MemoryBroker.layer), Effect.provide(Logger.layer([logger])))
})

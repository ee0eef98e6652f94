/** What a shift has in hand: who starts next, who waits, and how much more is claimed. */
import { assert, describe, it } from "@effect/vitest"
import * as Option from "effect/Option"
import type { Claimed } from "../src/Broker.ts"
import { type Entry, make } from "../src/internal/entry.ts"
import * as Shares from "../src/internal/shares.ts"
import { makeSlots, maxClaim, maxPrefetchAgeMillis } from "../src/internal/slots.ts"
import type { Pool } from "../src/Runner.ts"
import { Task } from "@effect-ray/core"

class Fast extends Task.make("Fast") {}
class Needy extends Task.make("Needy") {}

/** Two pools, one without a process at first, and two slots. */
const makeShop = (options?: { readonly concurrency?: number; readonly isolates?: boolean }) => {
  const clock = { millis: 0 }
  const pools = { Fast: { limit: 10, closed: undefined }, Needy: { limit: 0, closed: undefined } }
  const shares = Shares.make<Entry>([Fast, Needy], (task) => pools[task._tag as "Fast" | "Needy"] as Pool)
  const [fast, needy] = shares
  const slots = makeSlots({
    shares,
    concurrency: options?.concurrency ?? 2,
    isolatesSuspects: () => options?.isolates ?? false,
    now: () => clock.millis
  })
  const admit = (share = fast!, losses = 0): Entry => {
    const claimed: Claimed = {
      id: "id",
      fence: 1,
      task: share.tasks[0]!._tag,
      queue: "default",
      priority: 5,
      payload: "{}",
      format: 1,
      attempt: 1,
      losses,
      maxAttempts: 1,
      timeoutMillis: 1,
      atMostOnce: false,
      traceparent: Option.none(),
      claimedAtMillis: 0,
      waitedMillis: 0
    }
    const entry = make({ claimed, task: share.tasks[0]!, share, claimedAtMillis: clock.millis })
    slots.admit(entry)
    return entry
  }
  const limits = () => slots.wanted(() => false).lanes.map(({ limit, task }) => [task, limit])
  return { admit, clock, fast: fast!, limits, needy: needy!, pools, slots }
}

describe("Slots", () => {
  it("start what was claimed first, whatever its pool, as far as there are slots", () => {
    const { admit, needy, pools, slots } = makeShop()
    pools.Needy.limit = 1
    const entries = [admit(needy), admit(), admit(needy), admit()]
    assert.strictEqual(slots.take(), entries[0])
    assert.strictEqual(slots.take(), entries[1])
    assert.isUndefined(slots.take(), "both slots are taken")
    slots.end(entries[1]!)
    assert.strictEqual(slots.take(), entries[3], "the pool of the one before is full")
    slots.end(entries[0]!)
    assert.strictEqual(slots.take(), entries[2])
    assert.deepStrictEqual([slots.inFlight(), slots.isFull()], [2, true])
  })

  it("give a try no slot until its handler begins", () => {
    const { admit, needy, slots } = makeShop({ concurrency: 1 })
    const [tried, fast] = [admit(needy), admit()]
    assert.strictEqual(slots.take(), tried)
    assert.strictEqual(slots.take(), fast)
    assert.deepStrictEqual([slots.inFlight(), slots.isFull()], [2, true])
    slots.end(fast)
    assert.isFalse(slots.isFull())
    slots.begin(tried)
    assert.isTrue(slots.isFull())
    slots.end(tried)
    assert.deepStrictEqual([slots.inFlight(), slots.isFull()], [0, false])
  })

  it("run a suspect alone, and let others pass it for a while", () => {
    const { admit, clock, limits, slots } = makeShop({ concurrency: 5 })
    const first = admit()
    assert.strictEqual(slots.take(), first)
    const suspect = admit(undefined, 2)
    const passing = admit()
    assert.strictEqual(slots.take(), passing)
    slots.end(passing)
    clock.millis = 30_000
    admit()
    assert.isUndefined(slots.take(), "the suspect has waited for long enough")
    assert.deepStrictEqual(limits(), [["Needy", 1]], "the other pool goes on")
    slots.end(first)
    assert.strictEqual(slots.take(), suspect)
    assert.isUndefined(slots.take())
    slots.end(suspect)
    assert.isDefined(slots.take())
  })

  it("run a suspect beside others where the runner gives it a process of its own", () => {
    const { admit, slots } = makeShop({ isolates: true })
    const entries = [admit(), admit(undefined, 2)]
    assert.deepStrictEqual([slots.take(), slots.take()], entries)
  })

  it("let a suspect hold up its own pool alone, also while it looks for a process", () => {
    const { admit, needy, slots } = makeShop({ concurrency: 3 })
    const suspect = admit(needy, 2)
    const others = [admit(), admit()]
    assert.deepStrictEqual([slots.take(), slots.take(), slots.take()], [suspect, ...others])
    slots.begin(suspect)
    assert.isTrue(slots.isFull())
  })

  it("run a suspect beside an attempt that would not stop, which may never end", () => {
    const { admit, slots } = makeShop()
    const endless = admit()
    assert.strictEqual(slots.take(), endless)
    slots.abandon(endless)
    const suspect = admit(undefined, 2)
    assert.strictEqual(slots.take(), suspect)
  })

  it("keep the slot of an attempt that would not stop, and let others start", () => {
    const { admit, slots } = makeShop({ concurrency: 2 })
    const suspect = admit(undefined, 2)
    assert.strictEqual(slots.take(), suspect)
    const next = admit()
    assert.isUndefined(slots.take())
    slots.abandon(suspect)
    assert.deepStrictEqual([slots.isAbandoned(suspect), slots.isStuck(), slots.abandoned()], [true, false, 1])
    assert.strictEqual(slots.take(), next)
    slots.abandon(next)
    assert.isTrue(slots.isStuck())
    slots.end(suspect)
    assert.deepStrictEqual([slots.abandoned(), slots.isFull()], [1, false])
  })

  it("want as much as there is room for, and nothing of what is paused", () => {
    const { admit, clock, limits, needy, pools, slots } = makeShop({ concurrency: 4 })
    assert.deepStrictEqual(limits(), [["Fast", 4], ["Needy", 1]])
    assert.deepStrictEqual(
      slots.wanted(({ task }) => task === "Fast").lanes.map(({ task }) => task),
      ["Needy"]
    )
    const tried = admit(needy)
    assert.deepStrictEqual(limits(), [["Fast", 3]])
    slots.take()
    Shares.holdBack(needy, { kind: "failed", detail: "no" }, clock.millis)
    slots.end(tried)
    assert.deepStrictEqual(limits(), [["Fast", 4]])
    assert.strictEqual(slots.nextTry(), 1_000)
    clock.millis = 1_000
    assert.deepStrictEqual(limits(), [["Fast", 4], ["Needy", 1]])
    pools.Needy.limit = 2
    assert.deepStrictEqual(limits(), [["Fast", 4], ["Needy", 2]])
  })

  it("want as many ahead as ended within a moment, up to a claim's worth", () => {
    const { admit, limits, pools, slots } = makeShop({ concurrency: 1 })
    pools.Fast.limit = Number.POSITIVE_INFINITY
    for (let n = 0; n < 20; n++) {
      admit()
      slots.end(slots.take()!)
    }
    assert.deepStrictEqual(limits()[0], ["Fast", 21])
    for (let n = 0; n < 2_000; n++) {
      admit()
      slots.end(slots.take()!)
    }
    assert.deepStrictEqual(limits()[0], ["Fast", maxClaim])
  })

  it("give back what has waited for too long, and what a pool has lost its process for", () => {
    const { admit, clock, fast, needy, pools, slots } = makeShop({ concurrency: 1 })
    admit()
    slots.take()
    const [waiting, suspect] = [admit(), admit(undefined, 2)]
    assert.deepStrictEqual(slots.stale(), [])
    clock.millis = maxPrefetchAgeMillis + 1
    assert.deepStrictEqual(slots.stale(), [waiting])
    slots.withdraw(waiting)
    assert.deepStrictEqual([fast.backlog, slots.waiting()], [[suspect], [suspect]])
    pools.Needy.limit = 3
    const needies = [admit(needy), admit(needy), admit(needy)]
    assert.deepStrictEqual(slots.surplus(), [])
    pools.Needy.limit = 0
    assert.deepStrictEqual(slots.surplus(), needies.slice(1), "one of them tries")
  })
})

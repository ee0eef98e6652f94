import { assert, describe, it } from "@effect/vitest"
import { Duration, Option, Schema } from "effect"
import { Envelope, Outcome, TaskError } from "../src/index.ts"

const { Ended, Outcome: O, propose } = Outcome

const facts = {
  stopped: undefined,
  losses: 0,
  atMostOnce: false,
  started: true,
  timeoutMillis: 1_000,
  next: Option.some(Duration.seconds(2))
} as const

const lost = new TaskError.Lost({ detail: "host died: exit 137" })

describe("Outcome.propose", () => {
  it("records a success, whatever was asked of the attempt meanwhile", () => {
    for (const stopped of [undefined, "timeout", "cancel", "shutdown"] as const) {
      assert.deepStrictEqual(
        propose({ ...facts, ended: Ended.Succeeded({ value: "42" }), stopped }),
        O.Succeeded({ result: "{\"_tag\":\"Success\",\"value\":42}" })
      )
    }
  })

  it("retries a declared error while the policy has a delay, then fails with it", () => {
    const ended = Ended.Failed({ error: "{\"_tag\":\"OutOfInk\"}" })
    const result = Envelope.failure("{\"_tag\":\"OutOfInk\"}")
    assert.deepStrictEqual(
      propose({ ...facts, ended }),
      O.Retry({ result, delay: Duration.seconds(2), confirmed: true })
    )
    assert.deepStrictEqual(propose({ ...facts, ended, next: Option.none() }), O.Failed({ result }))
  })

  it("does not retry what no retry can cure", () => {
    const final: ReadonlyArray<TaskError.Reason> = [
      new TaskError.Undecodable({ what: "payload", detail: "not an object" }),
      new TaskError.ResultTooLarge({ bytes: 9, maxBytes: 8 }),
      new TaskError.Unschedulable({ detail: "no node has a GPU" })
    ]
    for (const reason of final) {
      assert.strictEqual(propose({ ...facts, ended: Ended.Died({ reason }) })._tag, "Failed")
    }
    const defect = new TaskError.Defect({ name: "Error", detail: "boom", stack: "" })
    assert.strictEqual(propose({ ...facts, ended: Ended.Died({ reason: defect }) })._tag, "Retry")
  })

  it("tells the four ways of being interrupted apart", () => {
    const ended = Ended.Interrupted({ confirmed: true })
    assert.strictEqual(propose({ ...facts, ended, stopped: "timeout" })._tag, "Retry")
    assert.strictEqual(propose({ ...facts, ended, stopped: "timeout", next: Option.none() })._tag, "TimedOut")
    assert.deepStrictEqual(propose({ ...facts, ended, stopped: "cancel" }), O.Cancelled({ confirmed: true }))
    assert.deepStrictEqual(propose({ ...facts, ended, stopped: "shutdown" }), O.Released())
    assert.deepStrictEqual(propose({ ...facts, ended }), O.Released())
  })

  it("counts a loss but no attempt, and quarantines the third", () => {
    const ended = Ended.Lost({ reason: lost, collateral: false })
    for (const losses of [0, 1]) {
      const outcome = propose({ ...facts, ended, losses })
      assert.deepStrictEqual(outcome, O.Lost({ result: Envelope.taskError(lost), counted: true, final: false }))
    }
    const third = propose({ ...facts, ended, losses: 2 })
    assert(third._tag === "Lost")
    assert.isTrue(third.final)
    assert.include(third.result, "Quarantined")
  })

  it("does not hold a collateral loss against the execution", () => {
    const ended = Ended.Lost({ reason: lost, collateral: true })
    const outcome = propose({ ...facts, ended, losses: 2 })
    assert.deepStrictEqual(outcome, O.Lost({ result: Envelope.taskError(lost), counted: false, final: false }))
  })

  it("says of an attempt over its time whether it is known to have stopped", () => {
    for (const confirmed of [true, false]) {
      const ended = Ended.Interrupted({ confirmed })
      const retry = propose({ ...facts, ended, stopped: "timeout" })
      const last = propose({ ...facts, ended, stopped: "timeout", next: Option.none() })
      assert(retry._tag === "Retry" && last._tag === "TimedOut")
      assert.deepStrictEqual([retry.confirmed, last.confirmed], [confirmed, confirmed])
    }
  })

  it("never repeats a task declared at-most-once once it may have begun", () => {
    const once = { ...facts, atMostOnce: true }
    const failed = Ended.Failed({ error: "{\"_tag\":\"OutOfInk\"}" })
    assert.strictEqual(propose({ ...once, ended: failed })._tag, "Failed")
    const interrupted = Ended.Interrupted({ confirmed: true })
    assert.strictEqual(propose({ ...once, ended: interrupted, stopped: "timeout" })._tag, "TimedOut")
    for (const stopped of ["shutdown", undefined] as const) {
      const outcome = propose({ ...once, ended: interrupted, stopped })
      assert(outcome._tag === "Lost" && outcome.final && !outcome.counted)
      assert.strictEqual(propose({ ...once, ended: interrupted, stopped, started: false })._tag, "Returned")
    }
    for (const collateral of [true, false]) {
      const outcome = propose({ ...facts, ended: Ended.Lost({ reason: lost, collateral }), atMostOnce: true })
      assert(outcome._tag === "Lost")
      assert.isTrue(outcome.final)
    }
  })
})

describe("Outcome.EndedJson", () => {
  const ends = [
    Ended.Succeeded({ value: "{\"a\":1}" }),
    Ended.Failed({ error: "\"no\"" }),
    Ended.Died({ reason: new TaskError.Undecodable({ what: "payload", detail: "\u0000" }) }),
    Ended.Interrupted({ confirmed: false }),
    Ended.Lost({ reason: lost, collateral: true }),
    Ended.NotStarted({ obstacle: { kind: "waiting", detail: "1 CPU" } })
  ]

  it("brings every end over", () => {
    for (const ended of ends) {
      const text = Schema.encodeSync(Outcome.EndedJson)(ended)
      assert.deepStrictEqual(Schema.decodeSync(Outcome.EndedJson)(text), ended)
    }
  })

  it("takes nothing for an end that is none", () => {
    const decode = Schema.decodeUnknownOption(Outcome.EndedJson)
    const rubbish = [
      "",
      "{",
      "null",
      "{}",
      "{\"_tag\":\"Succeeded\"}",
      "{\"_tag\":\"Failed\",\"error\":{}}",
      "{\"_tag\":\"Won\"}"
    ]
    for (const text of rubbish) assert.isTrue(Option.isNone(decode(text)), text)
  })
})

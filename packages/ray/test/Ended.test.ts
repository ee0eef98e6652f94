/** How attempts ended, from a host to a supervisor. */
import { Ended } from "@effect-ray/core/Outcome"
import * as TaskError from "@effect-ray/core/TaskError"
import { assert, describe, it } from "@effect/vitest"
import * as Frame from "../src/Frame.ts"
import { readLost } from "../src/internal/bodies.ts"
import { ofLost, ofResult, toResult } from "../src/internal/ended.ts"

const ends: ReadonlyArray<Ended> = [
  Ended.Succeeded({ value: "{\"a\":[1,null]}" }),
  Ended.Failed({ error: "{\"_tag\":\"Bad\"}" }),
  Ended.Died({ reason: new TaskError.Defect({ name: "Error", detail: "no", stack: "at x" }) }),
  Ended.Died({ reason: new TaskError.ResultTooLarge({ bytes: 3, maxBytes: 2 }) }),
  Ended.Interrupted({ confirmed: true }),
  Ended.Interrupted({ confirmed: false })
]

describe("an end", () => {
  it("is the same at the other end of a RESULT", () => {
    for (const ended of ends) assert.deepStrictEqual(ofResult(toResult(ended)), ended)
  })

  it("is a defect where its reason is none that this version knows", () => {
    for (const text of ["", "{", "null", "{\"_tag\":\"Unheard\"}", "{\"_tag\":\"Lost\",\"detail\":1}"]) {
      const ended = ofResult({ kind: Frame.Kind.died, text })
      assert(ended._tag === "Died" && ended.reason._tag === "Defect", text)
      assert.strictEqual(ended.reason.name, "UnknownReason")
    }
  })

  it("of a call that no host had names what kept it from one", () => {
    const obstacleOf = (body: object) => {
      const ended = ofLost(readLost(JSON.stringify({ kind: "unplaced", collateral: true, ...body })))
      assert(ended._tag === "NotStarted", JSON.stringify(ended))
      return ended.obstacle
    }
    assert.deepStrictEqual(obstacleOf({ why: "waiting", detail: "2 CPUs" }), { kind: "waiting", detail: "2 CPUs" })
    // A gateway of a later version may know more.
    for (const body of [{ detail: "" }, { why: "unheard", detail: "" }]) {
      assert.deepStrictEqual(obstacleOf(body), { kind: "unreachable", detail: "" })
    }
  })

  it("of a call that a host lost is an end, whatever the host said", () => {
    const rubbish = [
      "",
      "{",
      "null",
      "[]",
      "1",
      "{}",
      "{\"kind\":1}",
      "{\"kind\":\"oom\",\"detail\":1,\"collateral\":true}"
    ]
    for (const text of rubbish) {
      const ended = ofLost(readLost(text))
      assert(ended._tag === "Lost" && ended.reason._tag === "Lost", text)
      assert.isFalse(ended.collateral)
      assert.strictEqual(ended.reason.detail, `its host wrote: ${text}`)
    }
  })
})

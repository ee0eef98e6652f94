import { assert, describe, it } from "@effect/vitest"
import { Acknowledgements } from "../src/internal/acknowledgements.ts"

/** The calls in the frames that go out now. */
const sent = (acknowledgements: Acknowledgements): ReadonlyArray<number> =>
  acknowledgements.take(7).flatMap((body) =>
    Array.from({ length: body.length / 8 }, (_, index) => {
      assert.strictEqual(body.readUInt16BE(index * 8), 7)
      return body.readUIntBE(index * 8 + 2, 6)
    })
  )

describe("Acknowledgements", () => {
  it("are told again on another connection until a ping after them was answered", () => {
    const acknowledgements = new Acknowledgements()
    acknowledgements.add(1)
    assert.deepStrictEqual(sent(acknowledgements), [1])
    acknowledgements.pinged()
    acknowledgements.add(2)
    assert.deepStrictEqual(sent(acknowledgements), [2])
    acknowledgements.pinged()
    // The answer to the first ping says nothing of what went out after it.
    acknowledgements.answered()
    acknowledgements.add(3)
    acknowledgements.again()
    assert.deepStrictEqual(sent(acknowledgements), [2, 3])
    acknowledgements.pinged()
    acknowledgements.answered()
    acknowledgements.again()
    assert.deepStrictEqual(sent(acknowledgements), [])
  })

  it("go into as many frames as they need", () => {
    const acknowledgements = new Acknowledgements()
    for (let call = 0; call < 32_769; call++) acknowledgements.add(call)
    assert.lengthOf(sent(acknowledgements), 32_769)
    assert.deepStrictEqual(acknowledgements.take(7), [])
  })
})

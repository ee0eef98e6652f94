import { assert, describe, it } from "@effect/vitest"
import { firstInvalidByte, maxTerms, summarise } from "../src/statistics.ts"

const bytes = (...parts: ReadonlyArray<string | number>) =>
  new Uint8Array(parts.flatMap((part) => typeof part === "number" ? [part] : [...new TextEncoder().encode(part)]))

describe("statistics", () => {
  it("count lines, words and the longest line", () => {
    const { terms, ...numbers } = summarise("The ink is out.\r\nThe page isn't!\n")
    assert.deepStrictEqual(numbers, { lines: 2, words: 7, uniqueWords: 6, longestLine: 15, readingMinutes: 1 })
    assert.deepStrictEqual(terms, { the: 2, ink: 1, "isn't": 1, out: 1, page: 1 })
  })

  it("count nothing in an empty text", () => {
    assert.deepStrictEqual(summarise(""), {
      lines: 0,
      words: 0,
      uniqueWords: 0,
      longestLine: 0,
      readingMinutes: 0,
      terms: {}
    })
  })

  it("keep a bounded number of terms, the most frequent", () => {
    const text = Array.from({ length: 2 * maxTerms }, (_, n) => `word${n} `.repeat(n + 1)).join("\n")
    const terms = Object.keys(summarise(text).terms)
    assert.strictEqual(terms.length, maxTerms)
    assert.strictEqual(terms[0], `word${2 * maxTerms - 1}`)
  })

  it("take names of Object.prototype as words like any other", () => {
    const { terms } = summarise("constructor __proto__ constructor")
    assert.strictEqual(terms["constructor"], 2)
  })

  it("find the first byte that is not UTF-8", () => {
    assert.strictEqual(firstInvalidByte(bytes("plain, ünï and 🎈")), undefined)
    assert.strictEqual(firstInvalidByte(bytes()), undefined)
    assert.strictEqual(firstInvalidByte(bytes("ünï", 0xff, "more")), 5)
    assert.strictEqual(firstInvalidByte(bytes(0x80)), 0)
  })

  it("point at a character that the end of the file cuts in two", () => {
    const offset = firstInvalidByte(bytes("ab", 0xf0, 0x9f))
    assert.isTrue(offset !== undefined && offset >= 2 && offset <= 4)
  })
})

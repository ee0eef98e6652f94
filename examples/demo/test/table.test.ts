import { assert, describe, it } from "@effect/vitest"
import { count, milliseconds, printable, shorten, table } from "../src/table.ts"

describe("the table", () => {
  it("gives each column the width of its widest cell", () => {
    assert.strictEqual(
      table([["task", "of"], ["Summarise", "a.md"], ["Watch", "report"]]),
      "task       of\n─────────  ──────\nSummarise  a.md\nWatch      report"
    )
  })

  it("keeps the end of a long path", () => {
    assert.strictEqual(shorten("packages/core/src/Task.ts", 12), "…src/Task.ts")
    assert.strictEqual(shorten("Task.ts", 12), "Task.ts")
  })

  it("shows what a terminal would obey instead of sending it", () => {
    assert.strictEqual(printable("a\u001b[2Jb\nc\u202ed"), "a\\u{1b}[2Jb\\u{a}c\\u{202e}d")
    assert.strictEqual(printable("ünï 🎈.md"), "ünï 🎈.md")
    assert.notInclude(table([["of"], ["\u001b[31m.md"]]), "\u001b")
  })

  it("says times and numbers as people do", () => {
    assert.strictEqual(milliseconds(12.4), "12 ms")
    assert.strictEqual(milliseconds(1234), "1.2 s")
    assert.strictEqual(count(1, "line"), "1 line")
    assert.strictEqual(count(12_345, "word"), "12,345 words")
  })
})

import { assert, describe, it } from "@effect/vitest"
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"

describe("A host's output", () => {
  it("holds up a handler that prints faster than it is read, by whichever way, and takes no memory for it", async () => {
    const file = fileURLToPath(new URL("./fixtures/flood.ts", import.meta.url))
    const child = spawn(process.execPath, ["--conditions=@effect-ray/source", file], {
      stdio: ["ignore", "pipe", "pipe"]
    })
    let errors = ""
    child.stderr.setEncoding("utf8").on("data", (said: string) => errors += said)
    const counts = { x: 0, y: 0 }
    let last = ""
    for await (const chunk of child.stdout) {
      const said = (chunk as Buffer).toString("latin1")
      for (const letter of ["x", "y"] as const) counts[letter] += said.split(letter).length - 1
      last = (last + said).slice(-10)
    }
    assert.strictEqual(errors, "")
    assert.deepStrictEqual(counts, { x: 100 * 1024 * 1023, y: 100 * 1024 * 1024 })
    assert.strictEqual(last, "yythe end\n")
  })
})

import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import { hasMembers, isAlive, processId } from "../src/internal/processes.ts"
import { eventually } from "./support.ts"

/** Its first thread ends at once, and another when its standard input does. */
const program = `
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("here", flush=True)
ctypes.CDLL(None).pthread_exit(None)
`

describe("a process", () => {
  it.live("lives as long as one of its threads, though its first one has ended", () =>
    Effect.gen(function*() {
      const child = spawn("python3", ["-c", program], { detached: true, stdio: ["pipe", "pipe", "inherit"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      let told = ""
      child.stdout.on("data", (chunk: Buffer) => told += chunk.toString())
      yield* eventually(Effect.sync(() => told), (told) => told !== "")
      const id = processId(child.pid!)
      const lives = Effect.sync(() => [isAlive(id), hasMembers(id.pid)])
      for (let looks = 0; looks < 5; looks++) {
        yield* Effect.sleep("50 millis")
        assert.deepStrictEqual(yield* lives, [true, true])
      }
      child.stdin.end()
      yield* eventually(lives, (lives) => !lives.includes(true))
    }))
})

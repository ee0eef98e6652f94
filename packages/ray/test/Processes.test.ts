import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import {
  commandsOf,
  hasMembers,
  isAlive,
  isElsewhere,
  killGroup,
  processId,
  signal
} from "../src/internal/processes.ts"
import { eventually } from "./support.ts"

/** Its first thread ends at once, and another when its standard input does. */
const program = `
import ctypes, sys, threading
threading.Thread(target=sys.stdin.read).start()
print("here", flush=True)
ctypes.CDLL(None).pthread_exit(None)
`

const ownGroup = (): number => Number(fs.readFileSync("/proc/self/stat", "utf8").replace(/^.*\) /s, "").split(" ")[2])

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

  it("is never asked of by a number that means all, our group or the first", () => {
    for (const pid of [0, 1, -1, Number.NaN, 1.5]) assert.isFalse(signal(pid, 0))
    assert.isTrue(signal(process.pid, 0))
  })

  it.live("is killed with its group when one of the group is known by its command, and we are not in it", () =>
    Effect.gen(function*() {
      const words = `known-${process.pid}`
      const child = spawn("sh", ["-c", `sleep 600; : ${words}`], { detached: true, stdio: "ignore" })
      yield* Effect.addFinalizer(() => Effect.sync(() => signal(-child.pid!, "SIGKILL")))
      const group = child.pid!
      yield* eventually(
        Effect.sync(() => commandsOf(group)),
        (commands) => commands.some((line) => line.includes(words))
      )
      assert.isFalse(killGroup(group, "others"))
      assert.isTrue(hasMembers(group))
      // Our own group is whose leader started the tests: it has `node` in it.
      assert.isFalse(killGroup(ownGroup(), "node"))
      assert.isTrue(killGroup(group, words))
      yield* eventually(Effect.sync(() => hasMembers(group)), (has) => !has)
    }))

  it("of another boot or container is not taken for the one with its number here", () => {
    const id = processId(process.pid)
    assert.isTrue(isAlive(id))
    for (const other of [{ boot: "another" }, { namespace: "another" }, { started: "1" }]) {
      assert.isFalse(isAlive({ ...id, ...other }))
    }
    assert.isTrue(isElsewhere({ ...id, namespace: "another" }))
    assert.isFalse(isElsewhere({ ...id, boot: "another", namespace: "another" }))
  })
})

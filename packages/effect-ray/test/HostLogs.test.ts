import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as fs from "node:fs"
import * as path from "node:path"
import * as hostLogs from "../src/internal/hostLogs.ts"
import { eventually, temporaryFolder } from "./kit.ts"

/** The lines that are told while the body runs. */
const following = <A>(body: (folder: string, told: ReadonlyArray<string>) => Effect.Effect<A>) =>
  Effect.gen(function*() {
    const folder = yield* temporaryFolder
    fs.writeFileSync(path.join(folder, "worker-old-01000000-7.out"), "said before\n")
    const told: Array<string> = []
    let begun = false
    const logger = Logger.map(Logger.formatStructured, ({ annotations, level, message }) => {
      if (message === "begun") begun = true
      else told.push([level, JSON.stringify(message), JSON.stringify(annotations)].join(" "))
    })
    yield* hostLogs.follow(Effect.succeed(folder)).pipe(
      Effect.provide(NodeServices.layer),
      Effect.provide(Logger.layer([logger])),
      Effect.forkScoped
    )
    // What is written before the first look counts as old.
    let tries = 0
    yield* eventually(
      Effect.sync(() => {
        fs.writeFileSync(path.join(folder, `worker-try-${++tries}.out`), "begun\n")
        return begun
      }),
      (begun) => begun
    )
    return yield* body(folder, told)
  })

const until = (told: ReadonlyArray<string>, count: number) =>
  eventually(Effect.sync(() => told.length), (length) => length >= count)

const logged = (message: string, level = "INFO") =>
  JSON.stringify({
    message,
    level,
    timestamp: "",
    annotations: { task: "Render", execution: "e", attempt: 1 },
    spans: {}
  })

describe("hostLogs", () => {
  it.live("tells what handlers log and print, each line once, and nothing that Ray says or that is old", () =>
    following((folder, told) =>
      Effect.gen(function*() {
        const out = path.join(folder, "worker-ab-01000000-42.out")
        fs.appendFileSync(path.join(folder, "worker-old-01000000-7.out"), "said now\n")
        yield* until(told, 1)
        fs.writeFileSync(
          out,
          `:job_id:01000000\n:actor_name:x\n${logged("painted")}\n${logged("no ink", "WARN")}\nprin`
        )
        yield* until(told, 3)
        fs.appendFileSync(
          out,
          "ted, käse\n{\"level\":\"INFO\",\"message\":\"the host is up\"}\n{\"level\":\"WARN\",\"message\":\"slow\"}\n"
        )
        fs.writeFileSync(path.join(folder, "raylet.out"), "not a worker's\n")
        yield* until(told, 5)
        assert.deepStrictEqual(told, [
          "INFO \"said now\" {\"host\":\"pid 7\"}",
          "INFO \"painted\" {\"task\":\"Render\",\"execution\":\"e\",\"attempt\":1}",
          "WARN \"no ink\" {\"task\":\"Render\",\"execution\":\"e\",\"attempt\":1}",
          "INFO \"printed, käse\" {\"host\":\"pid 42\"}",
          "WARN \"slow\" {\"host\":\"pid 42\"}"
        ])
      })
    ))

  it.live("shows nothing that a terminal would obey, printed or logged", () =>
    following((folder, told) =>
      Effect.gen(function*() {
        const hostile =
          "\u001b[2J\u001b]0;title\u0007\u001b]52;c;Y29weQ==\u0007\u001b[31mred\u001b[0m\u009b1m \u202eback"
        const line = JSON.stringify({
          message: [hostile, { [hostile]: [hostile] }],
          cause: hostile,
          level: "ERROR",
          annotations: { task: hostile, [`${hostile}key`]: hostile }
        })
        fs.writeFileSync(path.join(folder, "worker-ab-01000000-42.out"), `${hostile}\n${line}\n`)
        yield* until(told, 2)
        assert.deepStrictEqual(told, [
          "INFO \"red back\" {\"host\":\"pid 42\"}",
          "ERROR [\"red back\",{\"red back\":[\"red back\"]},\"red back\"] {\"task\":\"red back\",\"red backkey\":\"red back\"}"
        ])
      })
    ))

  it.live("leaves out what Ray says of the gateway's job, and no more of it", () =>
    following((folder, told) =>
      Effect.gen(function*() {
        fs.writeFileSync(
          path.join(folder, "worker-ab-01000000-42.err"),
          [
            "Found multiple active Ray instances: {'127.0.0.1:1', '127.0.0.1:2'}. Connecting to latest cluster at 127.0.0.1:1.",
            "2026-11-27 05:40:53,389\tINFO job_supervisor.py:375 -- Submitting job with RAY_ADDRESS = 127.0.0.1:1 job_id=01000000",
            "2026-11-27 05:40:53,389\tWARNING worker.py:375 -- a handler's Ray warns",
            ""
          ].join("\n")
        )
        yield* until(told, 1)
        assert.deepStrictEqual(told, [
          "INFO \"2026-11-27 05:40:53,389\\tWARNING worker.py:375 -- a handler's Ray warns\" {\"host\":\"pid 42\"}"
        ])
      })
    ))

  it.live("skips to the end of a file that it is far behind of, and says so", () =>
    following((folder, told) =>
      Effect.gen(function*() {
        const out = path.join(folder, "worker-ab-01000000-42.out")
        fs.writeFileSync(out, `${"x".repeat(999)}\n`.repeat(20_000) + "the end\n")
        yield* eventually(Effect.sync(() => told.at(-1) ?? ""), (last) => last.includes("the end"))
        assert.strictEqual(told[0], `WARN "20 MB of output skipped, see ${out}" {"host":"pid 42"}`)
        assert.isBelow(told.length, 300)
        // The line that was cut is left out.
        assert.deepStrictEqual(told.slice(1, -1).filter((line) => !line.includes("x".repeat(999))), [])
      })
    ))

  it.live("goes on with a file that was rotated, and with one that floods", () =>
    following((folder, told) =>
      Effect.gen(function*() {
        const out = path.join(folder, "worker-ab-01000000-42.out")
        fs.writeFileSync(out, "first\n")
        yield* until(told, 1)
        for (let round = 1; round <= 2; round++) {
          fs.appendFileSync(out, `end of ${round - 1}\n`)
          fs.renameSync(out, `${out}.1`)
          fs.writeFileSync(out, `${round}\n`)
          yield* until(told, 1 + 2 * round)
          assert.include(told.at(-2), `end of ${round - 1}`)
        }
        fs.appendFileSync(out, `${"x".repeat(40_000)}\n${"line\n".repeat(100_000)}`)
        yield* eventually(Effect.sync(() => told.length), (length) => length >= 100_000)
        fs.writeFileSync(path.join(folder, "worker-cd-01000000-43.out"), "the other\n")
        yield* eventually(Effect.sync(() => told.at(-1)!), (last) => last.includes("the other"))
      })
    ))
})

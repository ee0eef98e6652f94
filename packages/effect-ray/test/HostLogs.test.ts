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

  it.live("goes on with a file that was rotated, and with one that floods", () =>
    following((folder, told) =>
      Effect.gen(function*() {
        const out = path.join(folder, "worker-ab-01000000-42.out")
        fs.writeFileSync(out, "first\n")
        yield* until(told, 1)
        for (let round = 1; round <= 2; round++) {
          fs.renameSync(out, `${out}.1`)
          fs.writeFileSync(out, `${round}\n`)
          yield* until(told, 1 + round)
        }
        fs.appendFileSync(out, `${"x".repeat(40_000)}\n${"line\n".repeat(100_000)}`)
        yield* eventually(Effect.sync(() => told.length), (length) => length >= 100_000)
        fs.writeFileSync(path.join(folder, "worker-cd-01000000-43.out"), "the other\n")
        yield* eventually(Effect.sync(() => told.at(-1)!), (last) => last.includes("the other"))
      })
    ))
})

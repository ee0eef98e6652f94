/**
 * `make demo DIR=path`: reports on the text files of a folder, with tasks that run on a Ray of the demo's own.
 *
 * The last line starts with `demo ok` only if everything went as it should and everything that was started is gone.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Cause, Duration, Effect, Schema } from "effect"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { readBadFile } from "./badFile.ts"
import * as environment from "./environment.ts"
import { describeLeftOut, NoFiles, textFiles } from "./files.ts"
import { complaints, describe, describePairs } from "./outcome.ts"
import * as Progress from "./progress.ts"
import * as Report from "./report.ts"
import { count, milliseconds, printable } from "./table.ts"

/** A demo that takes longer has failed. */
const limit = "5 minutes"

const repository = fileURLToPath(new URL("../../..", import.meta.url))

class NotAsExpected extends Schema.TaggedError<NotAsExpected>()("NotAsExpected", {
  complaints: Schema.Array(Schema.String)
}) {
  override get message() {
    return `not as expected:\n${this.complaints.map((complaint) => `- ${printable(complaint)}`).join("\n")}`
  }
}

/** Where a relative path begins: npm runs a workspace's script in the workspace's folder. */
const workingFolder = (process.env["npm_lifecycle_event"] === "demo" ? process.env["INIT_CWD"] : undefined) ?? "."

const demo = Effect.gen(function*() {
  const progress = yield* Progress.Progress
  const folder = process.argv[2] === undefined ? repository : Path.resolve(workingFolder, process.argv[2])
  const choice = yield* textFiles(folder)
  const files = [...choice.files, yield* readBadFile]
  const others = describeLeftOut(choice.leftOut)
  yield* progress.step(`${count(files.length, "file")} of ${folder}${others === undefined ? "" : `; ${others}`}`)
  yield* progress.update("starting a Postgres and a Ray")
  const report = yield* Report.run(folder, files).pipe(
    Effect.tap(() => progress.update("stopping everything")),
    Effect.provide(environment.layer)
  )
  yield* progress.step("worker, Ray and Postgres have stopped")
  yield* Effect.sync(() => console.log(`\n${describe(report)}\n\n${describePairs(report)}\n`))
  const found = complaints(report)
  if (found.length > 0) return yield* new NotAsExpected({ complaints: found })
  return files.length
})

const main = demo.pipe(
  Effect.timeout(limit),
  Effect.timed,
  Effect.tap(([duration, files]) =>
    Effect.sync(() =>
      console.log(
        `demo ok: ${count(files, "file")} on Ray, in ${milliseconds(Duration.toMillis(duration))} with everything`
      )
    )
  ),
  Effect.tapCause((cause) => Effect.sync(() => console.log(`demo failed: ${explain(cause)}`))),
  Effect.provide(Progress.layer(process.stdout))
)

/** An error that a user can act on needs no stack. */
const explain = (cause: Cause.Cause<unknown>): string => {
  const error = Cause.squash(cause)
  if (error instanceof NoFiles) return printable(error.message)
  return error instanceof NotAsExpected ? error.message : Cause.pretty(cause)
}

NodeRuntime.runMain(main, { disableErrorReporting: true })

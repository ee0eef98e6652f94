/**
 * `make chaos`, or `node --conditions=@effect-ray/source chaos/src/main.ts [minutes]`: steady load for an hour by
 * default. Exits with 1 if an execution ended wrongly, something is left, or something grows.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as Schema from "effect/Schema"
import * as Series from "./soak/series.ts"
import * as soak from "./soak/soak.ts"

const mebibyte = 1024 * 1024

/**
 * What may grow in an hour, in mebibytes, after the first third. A process takes a while to settle; a leak never does.
 */
const maxGrowth: Readonly<Record<string, number>> = {
  "memory app": 60,
  "memory worker": 60,
  "memory gateway": 20,
  "memory node host": 60,
  "memory python host": 60,
  logs: 100,
  "logs of workers": 100
}

class Failed extends Schema.TaggedError<Failed>()("Failed", { faults: Schema.Array(Schema.String) }) {
  override get message() {
    return this.faults.join("\n")
  }
}

const show = (name: string, value: number): string =>
  name.startsWith("rows") || name === "files" ? value.toFixed(0) : `${(value / mebibyte).toFixed(1)} MiB`

const main = Effect.gen(function*() {
  const minutes = Number(process.argv[2] ?? 60)
  const report = yield* soak.run({
    duration: Duration.minutes(minutes),
    interval: Duration.seconds(10),
    rate: 50,
    tell: Console.log
  })
  const faults = report.wrong.slice(0, 20)
  for (const [name, series] of report.series) {
    const growth = Series.growth(series)
    const [first, last] = [series.values[0]!, series.values.at(-1)!]
    const bound = maxGrowth[name]
    yield* Console.log(
      `${name.padEnd(22)} ${show(name, first).padStart(12)} -> ${show(name, last).padStart(12)}  ${
        show(name, growth).padStart(12)
      } an hour`
    )
    // Over a shorter time a slope means nothing.
    if (minutes >= 30 && bound !== undefined && growth > bound * mebibyte) {
      faults.push(`${name} grows by ${show(name, growth)} an hour, the bound is ${bound} MiB`)
    }
  }
  for (const [table, rows] of report.left) if (rows > 0) faults.push(`${rows} rows are left in ${table}`)
  yield* Console.log(`${report.enqueued} executions, ${report.wrong.length} ended wrongly`)
  if (faults.length > 0) return yield* new Failed({ faults })
})

NodeRuntime.runMain(Effect.provide(main, Logger.layer([])))

/**
 * `make bench`, or `node --conditions=@effect-ray/source bench/src/main.ts [row…]`: measures the named rows, or all.
 *
 * Each row is printed and written to `bench/results`.
 */
import { NodeRuntime } from "@effect/platform-node"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as onRay from "./onRay.ts"
import * as queues from "./queues.ts"

class UnknownRow extends Schema.TaggedError<UnknownRow>()("UnknownRow", { name: Schema.String }) {
  override get message() {
    return `there is no row "${this.name}"; the rows are ${all.join(", ")}`
  }
}

const groups = [queues, onRay]

const all: ReadonlyArray<string> = groups.flatMap((group) => group.names)

const main = Effect.gen(function*() {
  const wanted = process.argv.length > 2 ? process.argv.slice(2) : all
  for (const name of wanted) if (!all.includes(name)) return yield* new UnknownRow({ name })
  for (const group of groups) {
    if (group.names.some((name) => wanted.includes(name))) yield* group.run(wanted)
  }
})

NodeRuntime.runMain(main)

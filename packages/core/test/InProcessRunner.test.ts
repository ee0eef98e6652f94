/** The runners of this process keep the contract of runners. */
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as InProcessRunner from "../src/InProcessRunner.ts"
import { runnerSuite, worker } from "./RunnerSuite.ts"
import { join, makeGates } from "./runnerSuite/kit.ts"

runnerSuite("InProcessRunner.layer", { layer: InProcessRunner.layer(worker), python: false, crowd: 0 })

runnerSuite("InProcessRunner.layerSync", { layer: InProcessRunner.layerSync(worker), python: false, crowd: 1 })

layer(InProcessRunner.layerSync(worker), { excludeTestServices: true })("InProcessRunner.layerSync", (it) => {
  it.effect("runs one at a time, in order", () =>
    Effect.gen(function*() {
      const gates = yield* makeGates
      const all = yield* gates.openMany(3)
      yield* gates.begun(1)
      yield* gates.release
      for (const running of all) yield* join(running)
      assert.deepStrictEqual(
        yield* gates.lines,
        [0, 1, 2].flatMap((index) => [`started gate${index}`, `ended gate${index}`])
      )
    }))
})

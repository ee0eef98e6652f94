/** What runs promise beyond Effect's engine, over any store. */
import { describe } from "@effect/vitest"
import type * as Layer from "effect/Layer"
import type { Broker } from "../src/Broker.ts"
import type { RunStore } from "../src/RunStore.ts"
import { endPromises } from "./runSuite/ends.ts"
import { patchPromises } from "./runSuite/patches.ts"
import { queryPromises } from "./runSuite/queries.ts"
import { signalPromises } from "./runSuite/signals.ts"
import { taskStepPromises } from "./runSuite/taskSteps.ts"

/** The layer is built anew for each test. */
export const runSuite = (name: string, stores: Layer.Layer<RunStore | Broker, unknown>): void => {
  describe(name, () => {
    describe("signals", () => signalPromises(stores))
    describe("queries and histories", () => queryPromises(stores))
    describe("patches", () => patchPromises(stores))
    describe("ends", () => endPromises(stores))
    describe("tasks as steps", () => taskStepPromises(stores))
  })
}

/** What Effect's workflow engine promises, and what ours promises besides, over any store. */
import { describe } from "@effect/vitest"
import { childPromises } from "./workflowSuite/children.ts"
import { deathPromises } from "./workflowSuite/deaths.ts"
import { executePromises } from "./workflowSuite/execute.ts"
import { interruptPromises } from "./workflowSuite/interrupts.ts"
import type { Stores } from "./workflowSuite/kit.ts"
import { stepPromises } from "./workflowSuite/steps.ts"

/** The stores are built anew for each test. `replays`: how often a history is replayed. */
export const workflowSuite = (name: string, stores: Stores, options: { readonly replays: number }): void => {
  describe(name, () => {
    describe("executing", () => executePromises(stores))
    describe("steps", () => stepPromises(stores))
    describe("interruption", () => interruptPromises(stores))
    describe("parents", () => childPromises(stores))
    describe("processes that die", () => deathPromises(stores, options))
  })
}

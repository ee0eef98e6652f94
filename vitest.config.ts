import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"
import { longest, projects } from "./vitest.workspace.ts"

/** Files that take long begin first, so that none of them is left alone at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>): Promise<Array<TestSpecification>> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const index = longest.findIndex((file) => moduleId.endsWith(`/${file}`))
      return index < 0 ? longest.length : index
    }
    const groupOf = ({ project }: TestSpecification): number => project.config.sequence.groupOrder
    const sorted = await super.sort(files)
    return sorted.sort((a, b) => groupOf(a) - groupOf(b) || rank(a) - rank(b))
  }
}

// Vitest does not read `vitest.workspace.ts` by itself.
export default defineConfig({
  test: { projects, passWithNoTests: false, teardownTimeout: 60_000, sequence: { sequencer: LongestFirst } }
})

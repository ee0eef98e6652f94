import { defineConfig } from "vitest/config"
import { projects } from "./vitest.workspace.ts"

// Vitest does not read `vitest.workspace.ts` by itself.
export default defineConfig({
  test: { projects, passWithNoTests: false, teardownTimeout: 60_000 }
})

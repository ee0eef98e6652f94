import type { TestProjectInlineConfiguration } from "vitest/config"

const conditions = ["@effect-ray/source", "module", "node", "development|production"]

/**
 * The files that take longest, in the order in which they begin. Vitest knows that only from a run before, and otherwise begins
 * with the projects of the first letters.
 */
export const longest: ReadonlyArray<string> = [
  "postgres/test/PgRoles.test.ts",
  "postgres/test/PgBroker.test.ts",
  "postgres/test/EmbeddedPostgres.test.ts",
  "effect-ray/test/Survival.test.ts",
  "ray/test/RayReturns.test.ts",
  "ray/test/RayRunnerFaults.test.ts",
  "effect-ray/test/Worker.test.ts",
  "effect-ray/test/Start.test.ts",
  "ray/test/LocalRay.test.ts",
  "ray/test/LocalReturns.test.ts",
  "ray/test/Bundle.test.ts",
  "effect-ray/test/Neighbours.test.ts",
  "effect-ray/test/Dev.test.ts",
  "demo/test/demo.test.ts",
  "effect-ray/test/Ray.test.ts",
  "ray/test/RayPackages.test.ts",
  "basics/test/ray.test.ts",
  "chaos/test/soak.test.ts",
  "ray/test/RayRunner.test.ts",
  "effect-ray/test/Cli.test.ts",
  "ray/test/HostStart.test.ts"
]

/**
 * Every package and example is a project of its own. Postgres and Ray are started for real, so files run at most three at
 * a time, most of which wait: a machine with two cores must be able to carry them. What needs no Ray comes first.
 */
const project = (
  name: string,
  root: string,
  options: { readonly group: number; readonly globalSetup?: string }
): TestProjectInlineConfiguration => ({
  root,
  // Without the condition here the tests would run against `dist`, and nothing would say so. Vitest hands the same
  // conditions to its worker processes.
  ssr: { resolve: { conditions } },
  resolve: { conditions },
  test: {
    name,
    include: ["test/**/*.test.ts"],
    ...(options.globalSetup === undefined ? {} : { globalSetup: options.globalSetup }),
    pool: "forks",
    maxWorkers: 3,
    sequence: { groupOrder: options.group },
    testTimeout: 300_000,
    hookTimeout: 300_000
  }
})

export const projects: Array<TestProjectInlineConfiguration> = [
  project("core", "packages/core", { group: 0 }),
  project("scripts", "scripts", { group: 0 }),
  project("postgres", "packages/postgres", { group: 1, globalSetup: "test/globalSetup.ts" }),
  project("ray", "packages/ray", { group: 2, globalSetup: "test/globalSetup.ts" }),
  project("effect-ray", "packages/effect-ray", { group: 2 }),
  project("basics", "examples/basics", { group: 2 }),
  project("demo", "examples/demo", { group: 2 }),
  project("chaos", "chaos", { group: 2 })
]

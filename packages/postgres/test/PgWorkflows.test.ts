import * as Layer from "effect/Layer"
import { workflowSuite } from "../../core/test/WorkflowSuite.ts"
import * as TestPostgres from "./TestPostgres.ts"

for (const version of TestPostgres.versions) {
  const stores = Layer.provide(TestPostgres.runStore(), TestPostgres.database(version))
  workflowSuite(`workflows on Postgres ${version}`, stores, { replays: 10 })
}

import * as Layer from "effect/Layer"
import { runSuite } from "../../core/test/RunSuite.ts"
import * as TestPostgres from "./TestPostgres.ts"

for (const version of TestPostgres.versions) {
  runSuite(`runs on Postgres ${version}`, Layer.provide(TestPostgres.runStore(), TestPostgres.database(version)))
}

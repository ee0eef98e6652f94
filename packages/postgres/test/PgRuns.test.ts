import { PgRunStore } from "@effect-ray/postgres"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { runSuite } from "../../core/test/RunSuite.ts"
import * as TestPostgres from "./TestPostgres.ts"

const stores = Layer.unwrap(Effect.map(TestPostgres.TestSchema, ({ name }) => PgRunStore.layer({ schema: name })))

for (const version of TestPostgres.versions) {
  runSuite(`runs on Postgres ${version}`, Layer.provide(stores, TestPostgres.database(version)))
}

/** The contract of `RunStore`, on every supported end of the range of Postgres versions. */
import * as Layer from "effect/Layer"
import { runStoreSuite } from "../../core/test/RunStoreSuite.ts"
import * as TestPostgres from "./TestPostgres.ts"

for (const version of TestPostgres.versions) {
  runStoreSuite(`PgRunStore on Postgres ${version}`, {
    layer: Layer.provideMerge(TestPostgres.runStore(), TestPostgres.database(version)),
    advance: TestPostgres.advance,
    live: true
  })
}

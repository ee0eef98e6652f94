/** The contract of `Broker`, on every supported end of the range of Postgres versions. */
import { brokerSuite } from "../../core/test/BrokerSuite.ts"
import * as TestPostgres from "./TestPostgres.ts"

for (const version of TestPostgres.versions) {
  brokerSuite(`PgBroker on Postgres ${version}`, {
    layer: TestPostgres.layer(version),
    advance: TestPostgres.advance,
    live: true
  })
}

brokerSuite("PgBroker on a database of the first migration", {
  layer: TestPostgres.layerFromFirstMigration(15),
  advance: TestPostgres.advance,
  live: true
})

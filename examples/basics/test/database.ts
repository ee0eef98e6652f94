/** A Postgres for one test file, in a schema of the file's own: the one Layer that all tests get theirs from. */
import * as TestPostgres from "../../../packages/postgres/test/TestPostgres.ts"

/** The app's client, and a broker over it, on the newest version there is. */
export const DatabaseLive = TestPostgres.layer(TestPostgres.versions.at(-1)!)

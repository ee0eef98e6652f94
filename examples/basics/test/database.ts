/** A Postgres for one test file, in a schema of the file's own, and what a program has to be told of it. */
export { environment, layer as DatabaseLive } from "../../../packages/effect-ray/test/database.ts"

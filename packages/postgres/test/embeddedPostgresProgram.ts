/** Starts a server, tells its process id, and waits to be killed. */
import { EmbeddedPostgres } from "@effect-ray/postgres"
import * as Effect from "effect/Effect"

Effect.runFork(Effect.scoped(Effect.gen(function*() {
  const { dataFolder, pid } = yield* EmbeddedPostgres.make()
  console.log(JSON.stringify({ pid, dataFolder }))
  return yield* Effect.never
})))

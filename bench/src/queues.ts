/** The rows on queues in Postgres: our worker beside graphile-worker's, on one server with fsync on. */
import { EmbeddedPostgres } from "@effect-ray/postgres"
import { PgClient } from "@effect/sql-pg"
import * as Effect from "effect/Effect"
import * as Child from "./contestants/child.ts"
import * as effectRay from "./contestants/effectRay.ts"
import * as graphile from "./contestants/graphile.ts"
import type { Contestant, Side } from "./contestants/side.ts"
import * as Row from "./Row.ts"
import * as drain from "./rows/drain.ts"
import * as idleLatency from "./rows/idleLatency.ts"

// Latency first: what a drain leaves behind would slow the next jobs for a while.
const rows = { "idle-latency": idleLatency.run, drain: drain.run }

export const names = Object.keys(rows) as ReadonlyArray<keyof typeof rows>

/** Measures the named rows. */
export const run = Effect.fnUntraced(function*(wanted: ReadonlyArray<string>) {
  const { url } = yield* EmbeddedPostgres.make()
  const withChild = (side: Side) => Effect.map(Child.start(side.module, url), (child): Contestant => ({ side, child }))
  const ours = yield* withChild(yield* effectRay.make(url))
  const peer = yield* withChild(yield* graphile.make(url))
  for (const name of names) {
    if (!wanted.includes(name)) continue
    const row = yield* Effect.provide(rows[name](ours, peer), PgClient.layer({ url, maxConnections: 1 }))
    yield* Row.report(row)
  }
}, Effect.scoped)

/** Owned: what a supervisor holds, for one whose claim was not answered. */
import type { Claimed, SupervisorId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import * as Effect from "effect/Effect"
import { type ClaimedRow, toClaimed } from "./claim.ts"
import { unavailable } from "./sqlFailure.ts"
import { isUuid, type Store } from "./store.ts"

export const makeOwned =
  ({ s, sql }: Store) => (supervisor: SupervisorId): Effect.Effect<ReadonlyArray<Claimed>, BrokerError> =>
    isUuid(supervisor)
      ? sql<Omit<ClaimedRow, "ord" | "lane" | "band" | "run_seconds">>`
        SELECT e.id, e.fence, e.task, e.queue, e.payload, e.format, e.attempts + 1 AS attempt, e.losses, e.max_attempts,
          e.timeout_millis, e.at_most_once, e.traceparent,
          extract(epoch FROM e.claimed_at - e.run_at)::double precision * 1000 AS waited_millis
        FROM ${s}.executions e
        WHERE e.owner = ${supervisor} AND e.state IN ('running', 'cancelling')
      `.pipe(Effect.mapBoth({ onFailure: unavailable("owned"), onSuccess: (rows) => rows.map(toClaimed) }))
      : Effect.succeed([])

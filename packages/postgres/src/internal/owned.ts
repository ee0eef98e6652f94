/** Owned: what a supervisor holds, for one whose claim was not answered. */
import type { Claimed, SupervisorId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Effect from "effect/Effect"
import { type OwnedRow, toClaimed } from "./claim.ts"
import { unavailable } from "./sqlFailure.ts"
import type { Store } from "./store.ts"

export const makeOwned =
  ({ answered, s, sql }: Store) => (supervisor: SupervisorId): Effect.Effect<ReadonlyArray<Claimed>, BrokerError> =>
    isUuid(supervisor)
      ? answered(
        sql<OwnedRow>`SELECT * FROM ${s}.owned(${supervisor})`
      ).pipe(
        Effect.mapBoth({ onFailure: unavailable("owned"), onSuccess: (rows) => rows.map(toClaimed) })
      )
      : Effect.succeed([])

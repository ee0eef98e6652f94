/** Reads what a supervisor owns, after a claim without a response. */
import type { Claimed, SupervisorId } from "@effect-ray/core/Broker"
import type { BrokerError } from "@effect-ray/core/BrokerError"
import { isUuid } from "@effect-ray/core/BrokerInput"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import { isReadable, type Named, type OwnedRow, type SetAside, toClaimed } from "./rows.ts"
import { isBadValue, unavailable } from "./sqlFailure.ts"
import { arrays, type Store } from "./store.ts"

/** The most bytes of payload in one response, unless one row alone has more. */
const maxBytes = 16 * 1024 * 1024

/** The most rows in one response. */
const maxRows = 500

type Known = Named & { readonly bytes: number }

/** Parts small enough for one response. */
const parts = (rows: ReadonlyArray<Known>): ReadonlyArray<ReadonlyArray<Known>> => {
  const all: Array<Array<Known>> = []
  let bytes = Infinity
  for (const row of rows) {
    const part = all.at(-1)
    bytes += row.bytes
    if (part !== undefined && part.length < maxRows && bytes <= maxBytes) {
      part.push(row)
      continue
    }
    all.push([row])
    bytes = row.bytes
  }
  return all
}

export const makeOwned = (store: Store, setAside: SetAside) => {
  const { s } = store

  /** Halves a part that cannot be read until the bad row is alone, and ends that row as failed. */
  const read = (
    supervisor: SupervisorId,
    rows: ReadonlyArray<Named>
  ): Effect.Effect<ReadonlyArray<Claimed>, SqlError> => {
    const asked = store.own(
      (sql) => sql<OwnedRow>`SELECT * FROM ${s}.owned(${supervisor}, ${arrays.uuid(rows.map(({ id }) => id))})`,
      { characters: maxBytes }
    )
    return Effect.matchEffect(asked, {
      onSuccess: (found) =>
        Effect.as(
          setAside(supervisor, found.filter((row) => !isReadable(row))),
          found.filter(isReadable).map(toClaimed)
        ),
      onFailure: (error) => {
        if (!isBadValue(error)) return Effect.fail(error)
        if (rows.length === 1) return Effect.as(setAside(supervisor, rows), [])
        const middle = Math.ceil(rows.length / 2)
        return Effect.zipWith(
          read(supervisor, rows.slice(0, middle)),
          read(supervisor, rows.slice(middle)),
          (first, second) => [...first, ...second]
        )
      }
    })
  }

  const owned = Effect.fnUntraced(function*(supervisor: SupervisorId) {
    const known = yield* store.own((sql) => sql<Known>`SELECT * FROM ${s}.owned_ids(${supervisor})`)
    const claims: Array<Claimed> = []
    for (const part of parts(known)) claims.push(...yield* read(supervisor, part))
    return claims as ReadonlyArray<Claimed>
  })

  return (supervisor: SupervisorId): Effect.Effect<ReadonlyArray<Claimed>, BrokerError> =>
    isUuid(supervisor) ? Effect.mapError(owned(supervisor), unavailable("owned")) : Effect.succeed([])
}

/** Collects settlements for the broker, in the order in which attempts ended. */
import * as Latch from "effect/Latch"
import type * as Broker from "../Broker.ts"

/** The most settlements in one statement. */
export const maxSettle = 1_000

/** The most characters of payloads and results in one statement, unless the first settlement alone has more. */
export const maxSettleLength = 16 * 1024 * 1024

/** How many settlements may wait before claiming pauses. */
export const maxUnsettled = 5_000

/** A settlement with its length. */
export interface Pending extends Broker.Settlement {
  /** How many characters its statement carries: the result, and the payload that moves to history with it. */
  readonly length: number
}

export type Settler = ReturnType<typeof makeSettler>

export const makeSettler = () => {
  const pending: Array<Pending> = []
  const settleable = Latch.makeUnsafe(false)

  const batchSize = (): number => {
    let length = 0
    for (const [index, settlement] of pending.entries()) {
      length += settlement.length
      if (index === maxSettle || (index > 0 && length > maxSettleLength)) return index
    }
    return pending.length
  }

  return {
    add: (settlements: ReadonlyArray<Pending>): void => {
      for (const settlement of settlements) pending.push(settlement)
      settleable.openUnsafe()
    },

    /** Takes as many settlements as one statement should carry. */
    take: (): ReadonlyArray<Pending> => {
      settleable.closeUnsafe()
      return pending.splice(0, batchSize())
    },

    /** Waits until there is something to settle. */
    await: settleable.await,

    /** Whether so many settlements wait that claiming must pause. */
    isFull: (): boolean => pending.length >= maxUnsettled,

    /** Drops all settlements, because their executions have other owners. */
    clear: (): void => void pending.splice(0)
  }
}
